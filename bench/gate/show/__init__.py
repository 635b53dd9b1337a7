"""What a gate shows."""
from pathlib import Path
from bench.gate.model import Gate
def write(folder: Path, gate: Gate) -> list[Path]:
    return [folder / "gate.json"]
def tell(gate: Gate) -> None:
    print(gate.verdict)
    for r in gate.results: print(f"{r.case:40} {r.metric:22} {r.burst} {r.verdict:12} {r.base:10.2f} {r.head:10.2f} {r.ratio:.3f} [{r.low:.3f},{r.high:.3f}] p={r.p:.4g} holm={r.p_holm:.3g} det={r.detectable:.3f} {r.clean}/{r.pairs} {r.why}")
    for n in gate.notes: print(n)
