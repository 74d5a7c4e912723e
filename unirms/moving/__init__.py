"""Taking a state, or a model's weights, from one optimizer to another: names, layouts, units, dtypes.

Nothing here knows a framework or a file format: it works on names, shapes and what two configs mean.
"""

from unirms.moving.maps import ParameterMap, Target
from unirms.moving.moves import Move, converted
from unirms.moving.planning import Destination, Plan, Spec, moved, plan

__all__ = ["Destination", "Move", "ParameterMap", "Plan", "Spec", "Target", "converted", "moved", "plan"]
