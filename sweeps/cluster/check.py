"""Check a cluster's file before `ray up`, which pays for a head before it finds out what is missing."""

from collections.abc import Iterator

from study.errors import BadInputError
from sweeps.cluster import local
from sweeps.cluster.file import ClusterFile
from sweeps.cluster.finding import Finding, unknown


def check(file: ClusterFile) -> Iterator[Finding]:
    """Yield what is found out, the quickest first; nothing is started.

    Raises:
        BadInputError: what asks AWS is not installed.
    """
    yield from local.findings(file)
    kind = file.provider["type"]
    if kind == "local":
        yield from local.machine_findings(file)
    elif kind == "aws":
        try:
            from sweeps.cluster import aws
        except ModuleNotFoundError as error:
            raise BadInputError(
                f"{error.name} is not installed; get it with: pip install -c constraints.txt -e '.[cluster]'"
            ) from None
        yield from aws.findings(file)
    else:
        yield unknown(kind, "only clusters on AWS and on machines of your own are looked into")
