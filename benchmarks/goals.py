"""What is to be reached: ratios of medians, emdstore to a peer, measured in one run."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

LIMIT, STARTED_LIMIT = "limit", "limit, started"
"""The bare copy of `benchmarks.limits`, and the same as a program of its own; a goal below it is 1.1 times as much
instead.
"""

RSYNC, DURABLE_RSYNC, CP = "rsync -a", "rsync -a --fsync", "cp -a"
S5CMD, S3FS, RCLONE = "s5cmd", "s3fs", "rclone, tuned"

SSH_RSYNC, DURABLE_SSH_RSYNC = "rsync -a -e ssh", "rsync -a --fsync -e ssh"
SFTP_RCLONE, SCP = "rclone, sftp", "scp -r"

EMDSTORE, FLUSHED, COMMIT = "emdstore", "emdstore --flush", "emdstore commit"
LIBRARY = " (library)"

BY_SFTP, HELD = "emdstore, sftp", "emdstore, held (library)"

THEIRS, INTO_THEIRS, INTO_OURS = "climate-ref", "emdstore, their schema", "emdstore, own catalog"

MOST_MB = 150.0
MOST_MS_TO_START = 80.0


@attrs.frozen
class Goal:
    """At most so much of a peer's time.

    Attributes
    ----------
    workload, route
        Where.
    subject, peer
        Who is compared with whom.
    most
        The highest ratio that meets the goal.
    """

    workload: str
    route: str
    subject: str
    peer: str
    most: float

    @property
    def least(self) -> str:
        """The bare copy that the subject is compared with."""
        return LIMIT if self.subject.endswith(LIBRARY) else STARTED_LIMIT

    def judge(self, ratios: Sequence[float], limit: float | None) -> str:
        """Return a verdict.

        Parameters
        ----------
        ratios
            One for each turn, of the two that ran in it.
        limit
            The ratio of the bare copy, where there is one.

        Returns
        -------
        str
            *met* or *not met* if all turns agree; *at the limit* if what is not met could not be; else *unclear*.
        """
        most = self.most if limit is None else max(self.most, 1.1 * limit)
        if max(ratios) <= most:
            return "met" if most == self.most or max(ratios) <= self.most else "at the limit"
        return "not met" if min(ratios) > most else "unclear"


def _both(workload: str, route: str, peer: str, most: float, subject: str = EMDSTORE) -> list[Goal]:
    return _each(workload, route, peer, most, most, subject)


def _each(workload: str, route: str, peer: str, cli: float, library: float, subject: str = EMDSTORE) -> list[Goal]:
    return [Goal(workload, route, subject + face, peer, most) for face, most in (("", cli), (LIBRARY, library))]


GOALS: list[Goal] = [
    *_each("W1", "local-local", RSYNC, 0.65, 0.5),
    *_each("W1", "local-local", CP, 1.0, 0.75),
    *_both("W1", "local-local", DURABLE_RSYNC, 0.5, FLUSHED),
    *_both("W1", "local-s3", S5CMD, 0.5),
    *_each("W1", "s3-local", S5CMD, 0.4, 0.3),
    *(goal for route in ("local-s3", "s3-local") for goal in _both("W1", route, S3FS, 0.1)),
    *_each("W1", "s3-s3", S5CMD, 0.3, 0.25),
    *_both("W2", "local-local", RSYNC, 0.8),
    *_both("W2", "local-s3", S5CMD, 0.8),
    *_both("W2", "s3-local", RCLONE, 1.2),
    *_both("W2", "s3-local", S5CMD, 0.8),
    *_both("W2", "s3-s3", S5CMD, 1.0),
    *_both("W3", "local-local", RSYNC, 0.7),
    *_both("W3", "local-s3", S5CMD, 0.6),
    *(Goal("W3", route, COMMIT + LIBRARY, EMDSTORE + LIBRARY, 1.25) for route in ("local-local", "local-s3")),
    Goal("W3", "local-local", COMMIT + LIBRARY, RSYNC, 1.0),
    Goal("W3", "local-s3", COMMIT + LIBRARY, S5CMD, 1.0),
    Goal("W1 again", "local-local", EMDSTORE + LIBRARY, RSYNC, 1.0),
    *(Goal("W1 again", route, EMDSTORE, S5CMD, 0.3) for route in ("local-s3", "s3-local")),
    *(
        goal
        for workload in ("W1 remote", "W2 remote", "W3 remote")
        for route in ("local-s3", "s3-local", "s3-s3")
        for goal in _both(workload, route, S5CMD, 0.8)
    ),
    Goal("W3 remote", "local-s3", COMMIT + LIBRARY, EMDSTORE + LIBRARY, 1.25),
    Goal("W3 remote", "local-s3", COMMIT + LIBRARY, S5CMD, 1.0),
    Goal("W3 remote", "local-s3", COMMIT + LIBRARY, RCLONE, 1.0),
    *_both("W1", "local-ssh", SSH_RSYNC, 0.8),
    *_both("W1", "ssh-local", SSH_RSYNC, 0.85),
    *_both("W2", "local-ssh", SSH_RSYNC, 1.0),
    *_both("W2", "ssh-local", SSH_RSYNC, 1.1),
    *_both("W1", "local-ssh", SSH_RSYNC, 1.05, BY_SFTP),
    *_both("W1", "ssh-local", SSH_RSYNC, 1.0, BY_SFTP),
    *(goal for route in ("local-ssh", "ssh-local") for goal in _both("W2", route, SSH_RSYNC, 1.15, BY_SFTP)),
    *(
        goal
        for route in ("local-ssh", "ssh-local")
        for subject in (EMDSTORE, BY_SFTP)
        for goal in _both("W1", route, SFTP_RCLONE, 0.4, subject)
    ),
    *(goal for route in ("local-ssh", "ssh-local") for goal in _both("W1 again", route, SSH_RSYNC, 1.0)),
    *(Goal("W1 again", route, HELD, SSH_RSYNC, 0.3) for route in ("local-ssh", "ssh-local")),
    *_both("W1", "local-ssh", DURABLE_SSH_RSYNC, 0.85, FLUSHED),
    Goal("W3", "local-ssh", COMMIT + LIBRARY, SSH_RSYNC, 1.0),
    *(
        goal
        for route, small in (("local-ssh", 0.9), ("ssh-local", 0.8))
        for workload, most, by_sftp in (("W1", 0.65, small), ("W2", 0.55, 0.6))
        for subject, ratio in ((EMDSTORE, most), (BY_SFTP, by_sftp))
        for goal in _both(f"{workload} distant", route, SSH_RSYNC, ratio, subject)
    ),
    Goal("100,000 scalars", "ingest", "emdstore ingest", "raw executemany", 1.3),
    Goal("100,000 scalars, PostgreSQL", "ingest", "emdstore ingest", "raw executemany", 0.6),
    *(
        goal
        for workload in ("100,000 scalars", "2,000 series of 200")
        for goal in (
            Goal(workload, "climate-ref ingest", INTO_THEIRS, THEIRS, 0.5),
            Goal(workload, "climate-ref ingest", INTO_OURS, THEIRS, 0.2),
        )
    ),
]
