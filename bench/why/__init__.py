"""Why a strategy costs what it costs: the kernel's own counts per message, of server processes under bursts."""
