"""TLS between the driver and its cluster is Dask's, with certificates that Dask's configuration names."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import dask
import pytest
from company import BOTH, FAKES
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from dask.distributed import Scheduler, Security, SpecCluster, Worker
from test_run import Silence, info, plan, trial

from bench.cluster import connect
from bench.cluster.connect import open_cluster
from bench.cluster.hosts import Known
from bench.cluster.many import ManyMachines
from bench.errors import BadInputError
from bench.record import Manifest, read_run, write_manifest


class Files(NamedTuple):
    """A certificate that signs itself, which both ends show and trust."""

    certificate: Path
    key: Path

    @property
    def settings(self) -> dict[str, object]:
        """What a user writes into Dask's configuration, or into DASK_ variables."""
        tls = "distributed.comm.tls"
        found = {"distributed.comm.require-encryption": True, f"{tls}.ca-file": str(self.certificate)}
        for role in ("client", "scheduler", "worker"):
            found |= {f"{tls}.{role}.cert": str(self.certificate), f"{tls}.{role}.key": str(self.key)}
        return found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "iobench test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    made = Files(folder / "cert.pem", folder / "key.pem")
    made.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    made.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made


@pytest.fixture(scope="module")
def address(files: Files) -> Iterator[str]:
    """A scheduler that speaks TLS only, with one worker in this process."""
    with dask.config.set(files.settings):
        security = Security()
    usual = {"security": security, "host": "127.0.0.1", "dashboard": False}
    worker = usual | {"resources": BOTH, "nthreads": 1, "protocol": "tls://"}
    with SpecCluster(
        scheduler={"cls": Scheduler, "options": usual | {"port": 0, "protocol": "tls://"}},
        workers={"a": {"cls": Worker, "options": worker}},
        security=security,
    ) as cluster:
        yield str(cluster.scheduler_address)


def test_a_run_goes_over_tls_where_dask_is_told_to(address: str, files: Files, tmp_path: Path) -> None:
    write_manifest(tmp_path, Manifest(sweep={}, strategies=[], host={}, versions={}, created="", command=[]))
    assert address.startswith("tls://")
    with dask.config.set(files.settings), open_cluster(address) as cluster:
        cluster.check(list(cluster.members().values()))
        known = {"a": Known([info("good")], [])}
        ManyMachines(cluster, plan(trial("good")), known, Silence(), FAKES).run(tmp_path, [])
    assert [record.status for record in read_run(tmp_path).records] == ["ok"]


@pytest.mark.parametrize("scheme", ["tls", "tcp"])
def test_without_a_certificate_there_is_no_way_in(address: str, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "CONNECT_S", 2)
    with (
        pytest.raises(BadInputError, match="No scheduler can be reached at"),
        open_cluster(address.replace("tls", scheme)),
    ):
        pass
