"""A private Slurm cluster of four nodes on this machine, for tests and trials: `up`, `down` and `status`.

It lies in one folder (`.slurm/` by default), its sockets below /tmp, with ports, a
munge key and a database of its own: a Slurm, munge or MariaDB that the machine already
has is not touched. The daemons run as root, any user may submit. Debian's packages are
installed where they are missing; where that cannot be done, the exit code is 69
(EX_UNAVAILABLE).

    python3 tools/slurm up && export SLURM_CONF=$PWD/.slurm/slurm.conf && sinfo
"""

from .cluster import Cluster, ClusterError, NodesError, Options
from .folder import DIRECTORY, load
from .packages import UnavailableError
from .starting import down, up

__all__ = [
    "DIRECTORY",
    "Cluster",
    "ClusterError",
    "NodesError",
    "Options",
    "UnavailableError",
    "down",
    "load",
    "up",
]
