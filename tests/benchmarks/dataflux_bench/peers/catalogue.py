"""Which programs there are, and how one is named on the command line: `upstream:workers=16`."""

from __future__ import annotations

from dataclasses import dataclass, field

LISTINGS = {
    "dataflux": "list_dataflux",
    "sequential": "list_sequential",
    "upstream": "list_upstream",
    "obstore": "list_obstore",
    "rclone": "list_command",
    "gcloud": "list_command",
}
DOWNLOADS = {
    "dataflux": "download_dataflux",
    "upstream": "download_upstream",
    "transfer_manager": "download_transfer_manager",
    "obstore": "download_obstore",
    "gcsfs": "download_gcsfs",
    "rclone": "download_command",
    "gcloud": "download_command",
}


@dataclass(frozen=True, slots=True)
class Peer:
    """A program with its options.

    Attributes:
        label: what was asked for, `name:option=value:option=value`.
        name: the family; the best of a family's members is compared.
        program: module in `dataflux_bench.peers`.
        options: handed to the program, as text.
    """

    label: str
    name: str
    program: str
    options: dict[str, str] = field(hash=False)

    @property
    def family(self) -> str:
        """Members of a family differ only in how much they do at once; their best is what is compared."""
        own = ("strategy", "seed", "chunked", "commit")
        kept = [f"{key}={value}" for key, value in self.options.items() if key in own]
        kept += [
            key for key in self.options if key in ("threads", "processes", "range_bytes") and self.name != "dataflux"
        ]
        return ":".join([self.name, *kept])


def parse_peer(label: str, programs: dict[str, str]) -> Peer:
    """Return the peer that a label names. Raises ValueError for an unknown one."""
    name, *options = label.split(":")
    if name not in programs:
        raise ValueError(f"There is no peer {name!r}; there are {', '.join(programs)}.")
    return Peer(label, name, programs[name], dict(option.split("=", 1) for option in options))


def parse_peers(text: str, programs: dict[str, str]) -> list[Peer]:
    """Return the peers of a comma-separated list."""
    return [parse_peer(label, programs) for label in text.split(",") if label]
