"""PaddlePaddle 1: `paddle.fluid.optimizer.RMSPropOptimizer`.

Recorded runs of 1.8.5, of static graphs and of dygraph, are in the corpus.
"""

from dataclasses import replace

from unirms.dialects.base import REQUIRED, Dialect, apart, carries, converts
from unirms.dialects.behaviour import Behaviour, refusing
from unirms.dialects.calls import read_clip, read_regularizer, write_clip, write_regularizer
from unirms.dialects.paddle import DIALECT as PADDLE
from unirms.dialects.paddle import LOST_ROWS
from unirms.dialects.schedules.fluid import CLASSES
from unirms.dialects.snippet import Exemption, Snippet

SNIPPET = Snippet(
    imports=("import paddle.fluid as fluid",),
    name="fluid.optimizer.RMSPropOptimizer",
    parameters="model.parameters()",
    keyword="parameter_list",
    exemption=Exemption(
        before="""\
for name, parameter in model.named_parameters():
    if exempt(name):
        parameter.regularizer = fluid.regularizer.L2DecayRegularizer(0.0)
"""
    ),
    seeding="""\
# The names are those that the first optimizer over these parameters gives; before its
# first step, it has the state of its learning rate alone.
slots = {"mean_square": $start, "mean_grad": 0.0, "momentum": 0.0}
state = optimizer.state_dict()
for p in model.parameters():
    for slot, value in slots.items():
        state[f"{p.name}_{slot}_0"] = np.full(p.shape, value, "float32")
optimizer.set_dict(state)
""",
    seeding_imports=("import numpy as np",),
)

DIALECT = Dialect(
    name="paddle-fluid",
    target="paddle.fluid.optimizer.RMSPropOptimizer",
    package="paddlepaddle<2.5",
    spellings=("paddle.fluid.optimizer.RMSProp", "fluid.optimizer.RMSPropOptimizer", "fluid.optimizer.RMSProp"),
    aliases=("paddle.fluid", "fluid"),
    docs="https://www.paddlepaddle.org.cn/documentation/docs/en/1.8/api/optimizer/RMSPropOptimizer.html",
    arguments=(
        carries("learning_rate", "learning_rate", REQUIRED),
        carries("rho", "rho", 0.95),
        carries("epsilon", "epsilon", 1e-6),
        carries("momentum", "momentum", 0.0),
        carries("centered", "centered", False),
        apart("parameter_list", None, "the parameters"),
        converts(
            "regularization",
            ("weight_decay", "weight_decay_mode"),
            None,
            read_regularizer,
            lambda config: write_regularizer(config, "fluid.regularizer."),
        ),
        converts("grad_clip", ("clip",), None, read_clip, lambda config: write_clip(config, "fluid.clip.GradientClip")),
        apart("name", None, "a label"),
    ),
    schedules=CLASSES,
    snippet=SNIPPET,
    fixed=PADDLE.fixed,
    exempts=True,
    rounds=("learning_rate", "rho", "epsilon", "momentum", "weight_decay"),
    # `isinstance(learning_rate, float)`, four times `is None` and the type of the clip are what the constructor checks.
    behaviour=Behaviour(
        refused=refusing(
            ("learning_rate rho epsilon momentum", ("text", "None")),
            ("learning_rate", ("int", "bool", "numpy.float32")),
            ("centered", ("text",)),
            ("GradientClipByNorm GradientClipByValue", ("zero", "negative")),
        ),
        objects={
            "regularization": "fluid.regularizer.L2DecayRegularizer",
            "grad_clip": "fluid.clip.GradientClipByGlobalNorm",
        },
        misread={
            (name.replace("ClipGrad", "GradientClip"), kind): consequence
            for (name, kind), consequence in PADDLE.behaviour.misread.items()
        },
        defects=(replace(LOST_ROWS, remedy="use sparse=False"),),
    ),
    remarks=("Its kernel has float32 only.",),
)
