"""JSON schemas of what the commands print, closed where the contract is."""

from __future__ import annotations

from typing import Any

import jsonschema
from cli_world import call

NUMBER = {"type": ["number", "null"]}
TEXT = {"type": "string"}


def obj(properties: dict[str, Any], closed: bool = True) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": not closed,
    }


def listed(items: dict[str, Any], least: int = 0) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": least}


ESTIMATE = obj({"value": NUMBER, "ci": {**listed(NUMBER, 2), "maxItems": 2}, "level": {"type": "number"}})
STATUS = {
    "enum": [
        "converged",
        "bound_hit",
        "unidentified",
        "non_interior",
        "too_few_points",
        "needs_curves",
        "not_isoflop",
        "not_resolved",
        "not_converged",
    ]
}
DROPPED = listed(obj({"row": {"type": ["string", "integer"]}, "reason": TEXT}))
FIT = obj(
    {
        "law": TEXT,
        "params": {"type": "object", "additionalProperties": ESTIMATE, "minProperties": 1},
        "objective_value": NUMBER,
        "objective": TEXT,
        "n": {"type": "integer"},
        "status": STATUS,
        "warnings": listed(TEXT),
        "diagnostics": {"type": "object"},
        "dropped": DROPPED,
        "command": TEXT,
        "version": TEXT,
    }
)
POINT = obj({"flops": NUMBER, "params": NUMBER, "tokens": NUMBER, "loss": NUMBER, "status": STATUS})
FRONTIER = obj(
    {
        "frontiers": listed(
            obj(
                {
                    "approach": TEXT,
                    "count": TEXT,
                    "cost": TEXT,
                    "N_exponent": ESTIMATE,
                    "D_exponent": ESTIMATE,
                    "N_coefficient": ESTIMATE,
                    "D_coefficient": ESTIMATE,
                    "status": STATUS,
                    "points": listed(POINT),
                    "dropped": DROPPED,
                }
            ),
            1,
        ),
        "agreement": {"type": "object"},
    }
)
PREDICT = obj({"params": ESTIMATE, "tokens": ESTIMATE, "loss": ESTIMATE})
DIFFERENCE = obj({"a": ESTIMATE, "b": ESTIMATE, "verdict": TEXT, "margin": {"type": "number"}}, closed=False)
SIDE = obj({"source": TEXT, "runs": {"type": "integer"}, "status": STATUS})
AT_LOSS = obj(
    {"loss": NUMBER, "score": NUMBER, "flops_a": NUMBER, "flops_b": NUMBER, "multiplier": ESTIMATE, "verdict": TEXT}
)
COMPARE = obj(
    {
        "a": SIDE,
        "b": SIDE,
        "approach": TEXT,
        "count": TEXT,
        "cost": TEXT,
        "metric": TEXT,
        "pairing": TEXT,
        "exponents": obj({"N": DIFFERENCE, "D": DIFFERENCE}),
        "tokens_per_param": listed(obj({"flops": NUMBER, "seen": DIFFERENCE, "predicted": DIFFERENCE})),
        "multiplier": obj({"status": STATUS, "reason": TEXT, "points": listed(AT_LOSS)}),
        "status": STATUS,
        "reason": TEXT,
        "warnings": listed(TEXT),
    }
)
CHOOSE = obj(
    {
        "holdout": TEXT,
        "best": {"type": ["string", "null"]},
        "status": STATUS,
        "reason": TEXT,
        "runs": {"type": "integer"},
        "level": {"type": "number"},
        "held_out_rows": listed({"type": ["string", "integer"]}),
        "candidates": listed(obj({"law": TEXT, "status": STATUS, "log_rmse": NUMBER, "aicc": NUMBER}, closed=False), 1),
    }
)
FINDING = obj(
    {
        "check": TEXT,
        "verdict": {"enum": ["clear", "suspected", "cannot_tell"]},
        "reason": TEXT,
        "rows": listed({"type": ["string", "integer"]}),
        "measured": {"type": "object"},
    }
)
CHECK = obj({"source": TEXT, "undertuned": FINDING, "findings": listed(FINDING, 1)}, closed=False)
FIT_CURVES = obj({**FIT["properties"], "scores": {"type": "object", "minProperties": 1}})
LIST = listed(obj({"name": TEXT, "summary": TEXT, "source": TEXT}), 1)
REASONS = listed(obj({"run_id": TEXT, "reason": TEXT}))
STATUS_OF_STORE = obj(
    {
        "store": TEXT,
        "sweeps": listed(TEXT),
        "counts": {"type": "object", "additionalProperties": {"type": "integer"}},
        "flops_done": {"type": "number"},
        "flops_left": NUMBER,
        "seconds_left": NUMBER,
        "running": listed(obj({"run_id": TEXT, "fraction": NUMBER}, closed=False)),
        "stopped": REASONS,
        "failed": REASONS,
        "diverged": REASONS,
        "quarantined": listed(obj({"file": TEXT, "reason": TEXT})),
    }
)


def checked(schema: dict[str, Any], *arguments: object) -> Any:
    """A command's JSON, which must be all of stdout and have the schema's shape."""
    found = call(*arguments, "--json")
    assert found.status == 0, found.err
    jsonschema.validate(found.json, schema)
    return found.json
