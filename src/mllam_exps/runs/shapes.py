"""The shapes of a run's records: what each field of them holds. Anybody in the team may have written them."""

from __future__ import annotations

from mllam_exps.base.processes import PROCESS
from mllam_exps.base.records import (
    Shape,
    count,
    dict_of,
    flag,
    list_of,
    maybe,
    number,
    of_shape,
    text,
)
from mllam_exps.identity.listings import LISTED, is_digest, is_inside
from mllam_exps.identity.run_keys import is_key

STARTED = PROCESS | {"time": maybe(number), "node": maybe(text)}
CLAIMED: Shape = {
    "claimed_by": of_shape(PROCESS),
    "experiment": text,
    "job_name": text,
    "scheduler": text,
    "time": number,
    "uid": maybe(count),
    "workspace": maybe(text),
}
END: Shape = {"outcome": text, "reason": text, "time": maybe(number), "by": maybe(text)}
OUTPUT: Shape = {
    "digest": is_digest,
    "size": maybe(number),
    "files": maybe(count),
    "isexec": maybe(flag),
}
FILE: Shape = LISTED | {"size": maybe(number), "isexec": maybe(flag)}
DESCRIBED: Shape = {
    "isexec": maybe(flag),
    "folders": maybe(list_of(is_inside)),
    "left_out": maybe(dict_of(text)),
    "digest": is_digest,
    "size": maybe(number),
    "files": maybe(list_of(of_shape(FILE))),
}
READ: Shape = {"run": maybe(is_key), "md5": is_digest}
RESULT: Shape = {
    "inputs": maybe(dict_of(of_shape(READ))),
    "attempt": count,
    "outputs": dict_of(of_shape(OUTPUT)),
    "commit": maybe(text),
    "time": maybe(number),
}
PROGRESS: Shape = {"text": maybe(text), "seconds_left": maybe(number)}
