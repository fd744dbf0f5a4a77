"""What a function asks for, as the job that the API takes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from typing import Any, Dict, Mapping, Optional, Union

from .errors import Invalid

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def size(value: "Union[int, str]") -> int:
    """Bytes: a number, or as in "512M", "1.5G" (units of 1024, as Docker's)."""
    if isinstance(value, int):
        return value
    m = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([bkmgt]?)(?:i?b)?\s*", value.lower())
    if m is None:
        raise Invalid(f"{value!r} is no size: want as in 512M or 1.5G")
    return int(float(m[1]) * _UNITS[m[2]])


def seconds(value: float) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise Invalid(f"{value!r} is no time: want seconds, above 0")
    return f"{value:.9f}".rstrip("0").rstrip(".") + "s"


@dataclass(frozen=True)
class Options:
    """How calls of a function run. What is None is not asked for."""

    name: Optional[str] = None
    retries: int = 0
    backoff: Optional[float] = None
    timeout: Optional[float] = None
    memory: "Union[int, str, None]" = None
    cpus: Optional[float] = None
    pids: Optional[int] = None
    gpus: Optional[int] = None
    labels: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, int] = field(default_factory=dict)
    queue: Optional[str] = None
    priority: int = 0
    isolate: Optional[bool] = None
    network: Optional[str] = None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "Options":
        """Options by name. TypeError names one that there is not, Invalid one that makes no sense."""
        known = [f.name for f in fields(cls)]
        for name in options:
            if name not in known:
                raise TypeError(f"there is no option {name!r} of a function; there are {', '.join(known)}")
        made = cls(**options)
        if not isinstance(made.retries, int) or made.retries < 0:
            raise Invalid(f"retries={made.retries!r}: want 0 or a larger number")
        return made

    def job(self, function: Mapping[str, Any], name: str) -> Dict[str, Any]:
        """The job of calls of a registered function."""
        spec: Dict[str, Any] = {"function": dict(function)}
        if self.timeout is not None:
            spec["timeout"] = seconds(self.timeout)
        if self.retries:
            spec["retry"] = {"max": self.retries}
            if self.backoff is not None:
                spec["retry"]["backoff"] = seconds(self.backoff)
        limits: Dict[str, int] = {}
        if self.memory is not None:
            limits["memory"] = size(self.memory)
        if self.cpus is not None:
            limits["cpus_milli"] = round(self.cpus * 1000)
        if self.pids is not None:
            limits["pids"] = self.pids
        resources = dict(self.resources, **({"gpu": self.gpus} if self.gpus else {}))
        for key, value in (("limits", limits), ("labels", dict(self.labels)), ("resources", resources),
                           ("isolate", self.isolate), ("network", self.network)):
            if value is not None and value != {}:
                spec[key] = value
        job: Dict[str, Any] = {"name": name, "spec": spec}
        if self.queue:
            job["queue"] = self.queue
        if self.priority:
            job["priority"] = self.priority
        return job
