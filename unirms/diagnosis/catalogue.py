"""The codes: what each means, an example of it, and the fix. `docs/diagnosis.md` is generated from here.

U1 is the statement, U2 what a class does with a value, U3 numeric hazards, U4 defects of one device's kernel or of one
kind of input, U5 files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from unirms.diagnosis.base import Diagnosis, Severity


@dataclass(frozen=True)
class Example:
    """A file that triggers a code, and the same file repaired.

    Attributes:
        text: the content; None is a file that does not exist.
        fixed: the content of the repaired file.
        file: its name; the suffix says what it is.
        dtype: the dtype of the weights, where the code depends on it.
    """

    text: str | None
    fixed: str
    file: str = "train.py"
    dtype: str | None = None


@dataclass(frozen=True)
class Code:
    """One thing that can be wrong.

    Attributes:
        title: what it is, in a few words.
        severity: "error" when the recipe does not do what it says, "warning" when it may not.
        explanation: why it matters, in one or two sentences.
        fix: what to do about it.
        example: a file that triggers it and nothing else.
    """

    title: str
    severity: Severity
    explanation: str
    fix: str
    example: Example


def found(code: str, message: str, fix: str, *, setting: str = "", line: int | None = None) -> Diagnosis:
    """Return a diagnosis under a code of the catalogue."""
    return Diagnosis(code, CODES[code].severity, message, fix, setting, line)


def _calls(target: str, wrong: str, right: str, *, dtype: str | None = None) -> Example:
    return Example(f"{target}({wrong})\n", f"{target}({right})\n", dtype=dtype)


CODES: Final[dict[str, Code]] = {
    "U101": Code(
        "Wrong letter case of the class",
        "error",
        "The frameworks spell it RMSprop or RMSProp; the other spelling does not exist, and importing it fails.",
        "Write the class as its framework does.",
        Example(
            "torch.optim.RMSProp(model.parameters(), lr=0.01)\n", "torch.optim.RMSprop(model.parameters(), lr=0.01)\n"
        ),
    ),
    "U102": Code(
        "Unknown class",
        "error",
        "It looks like an RMSProp, but unirms knows no class of that name; what it computes cannot be judged.",
        "Write one of the known classes (unirms dialects).",
        Example("torch.optim.RMSPropp(model.parameters())\n", "torch.optim.RMSprop(model.parameters())\n"),
    ),
    "U103": Code(
        "Keyword of another framework",
        "error",
        "The class calls the same hyperparameter by another name, and refuses this one.",
        "Write the class's own name for it.",
        _calls("paddle.optimizer.RMSProp", "learning_rate=0.1, alpha=0.9", "learning_rate=0.1, rho=0.9"),
    ),
    "U104": Code(
        "Unknown keyword",
        "error",
        "No argument of the class has that name.",
        "Correct the spelling, or drop it.",
        _calls("torch.optim.RMSprop", "params, momentun=0.9", "params, momentum=0.9"),
    ),
    "U105": Code(
        "Hyperparameter that the class does not have",
        "error",
        "Other implementations have it; this class has no argument for it and cannot compute it.",
        'Drop it, or use unirms.build(…, policy="exact"), which computes every axis in every framework.',
        _calls("torch.optim.RMSprop", "params, momentum=0.9, nesterov=True", "params, momentum=0.9"),
    ),
    "U106": Code(
        "Missing argument",
        "error",
        "The class has no default for it.",
        "Give it.",
        _calls("paddle.optimizer.RMSProp", "rho=0.9", "learning_rate=0.1, rho=0.9"),
    ),
    "U107": Code(
        "Argument given twice",
        "error",
        "The class knows the argument by two names, and uses one of the two values.",
        "Give it once.",
        _calls("tf_keras.optimizers.legacy.RMSprop", "learning_rate=0.1, lr=0.5", "learning_rate=0.5"),
    ),
    "U108": Code(
        "Class of a package that unirms does not know",
        "warning",
        "It is called RMSProp, but unirms does not know what it computes, and cannot judge it.",
        "Find out what it computes with unirms fingerprint.",
        Example("_target_: bitsandbytes.optim.RMSprop\n", "_target_: torch.optim.RMSprop\n", "recipe.yaml"),
    ),
    "U109": Code(
        "Scalar that YAML 1.1 reads otherwise",
        "warning",
        "PyYAML follows YAML 1.1, where 1e-8 is text (a number needs a point) and yes is true; YAML 1.2 reads them the "
        "other way round.",
        "Write it so that both read the same: 1.0e-8, true, or quotes around text.",
        Example(
            "Optimizer:\n  name: RMSProp\n  epsilon: 1e-8\n  lr:\n    name: Constant\n    learning_rate: 0.1\n",
            "Optimizer:\n  name: RMSProp\n  epsilon: 1.0e-8\n  lr:\n    name: Constant\n    learning_rate: 0.1\n",
            "PaddleClas.yaml",
        ),
    ),
    "U110": Code(
        "Number that became text on its way through YAML",
        "error",
        "A number in scientific notation without a point, such as 1e-8, is text to PyYAML, and arrives as text.",
        "Write a point into it (1.0e-8), or drop the quotes.",
        _calls("torch.optim.RMSprop", 'params, eps="1e-8"', "params, eps=1e-8"),
    ),
    "U111": Code(
        "Text in place of a number",
        "error",
        "No class takes text for a number; some fail only at the first step.",
        "Drop the quotes.",
        _calls("keras.optimizers.RMSprop", 'momentum="0.9"', "momentum=0.9"),
    ),
    "U112": Code(
        "Integer where the class takes only a float",
        "error",
        "Keras, Paddle and MindSpore check the type of some arguments: 1 is refused where 1.0 is taken.",
        "Write it with a point.",
        _calls("mindspore.nn.RMSProp", "params, momentum=0", "params, momentum=0.0"),
    ),
    "U113": Code(
        "True or False in place of a number",
        "error",
        "Where the class takes it, True counts as 1 and False as 0, which nobody means.",
        "Write the number.",
        _calls("torch.optim.RMSprop", "params, momentum=False", "params, momentum=0.0"),
    ),
    "U114": Code(
        "Text in place of True or False",
        "error",
        'Every text but the empty one is true in Python: torch.optim.RMSprop(…, centered="no") is centered.',
        "Write True or False.",
        _calls("torch.optim.RMSprop", 'params, centered="no"', "params, centered=False"),
    ),
    "U115": Code(
        "NumPy number that the class refuses",
        "error",
        "A NumPy scalar is not a Python float for the type checks of Keras, Paddle and MindSpore.",
        "Convert it with float().",
        Example(
            "paddle.optimizer.RMSProp(learning_rate=numpy.float32(0.1))\n",
            "paddle.optimizer.RMSProp(learning_rate=0.1)\n",
        ),
    ),
    "U116": Code(
        "Value of the wrong type",
        "error",
        "The class takes another type there, and fails in its constructor or at the first step.",
        "Write a value of the right type.",
        _calls("paddle.optimizer.RMSProp", "learning_rate=0.1, centered=0", "learning_rate=0.1, centered=False"),
    ),
    "U117": Code(
        "Number or None in place of True or False",
        "warning",
        "The class takes the truth of it: 0 and None count as False, everything else as True.",
        "Write True or False.",
        _calls("torch.optim.RMSprop", "params, centered=0", "params, centered=False"),
    ),
    "U201": Code(
        "Value that the class refuses",
        "error",
        "The constructor (or the first step) raises an error.",
        "Write a value that the class takes.",
        _calls("torch.optim.RMSprop", "params, lr=-0.01", "params, lr=0.01"),
    ),
    "U202": Code(
        "Negative value taken without a word",
        "error",
        "Not every class checks its arguments: Keras takes epsilon=-1, Paddle a negative learning rate.",
        "Write a value that is not negative.",
        _calls("keras.optimizers.RMSprop", "epsilon=-1e-7", "epsilon=1e-7"),
    ),
    "U203": Code(
        "Decay above 1 taken without a word",
        "error",
        "With rho > 1 the squares of the gradients are subtracted from the mean square, whose root is then NaN.",
        "Write a value between 0 and 1.",
        _calls("keras.optimizers.RMSprop", "rho=1.5", "rho=0.9"),
    ),
    "U204": Code(
        "NaN or infinity taken without a word",
        "error",
        "It spreads into every weight, or switches something off.",
        "Write a finite number.",
        _calls("keras.optimizers.RMSprop", 'learning_rate=float("nan")', "learning_rate=0.001"),
    ),
    "U205": Code(
        "Limit of a clip, or loss scale, that is not positive",
        "error",
        "Keras 3 then does not clip at all, Keras 2's legacy class makes every gradient 0, and Paddle's "
        "ClipGradByGlobalNorm(-1.0) turns the gradients round.",
        "Write a positive limit, or leave the clip out.",
        _calls("keras.optimizers.RMSprop", "clipnorm=0.0", "clipnorm=1.0"),
    ),
    "U206": Code(
        "Epsilon of 0 that the class replaces",
        "warning",
        "tf_keras.optimizers.legacy takes 0 for a missing value and computes with Keras's default.",
        "Write the epsilon that you want.",
        _calls("tf_keras.optimizers.legacy.RMSprop", "epsilon=0.0", "epsilon=1e-7"),
    ),
    "U207": Code(
        "Flag whose type stops the optimizer",
        "error",
        "mindspore.experimental.optim.RMSprop compares `centered` with True and False: for 1 or 0 its step does "
        "nothing, and nothing says so.",
        "Write True or False.",
        _calls("mindspore.experimental.optim.RMSprop", "params, centered=0", "params, centered=False"),
    ),
    "U208": Code(
        "Argument taken and ignored",
        "error",
        "The class takes the name for the sake of old programs and does nothing with it.",
        "Write what the class follows today.",
        _calls("tf_keras.optimizers.RMSprop", "lr=0.01", "learning_rate=0.01"),
    ),
    "U209": Code(
        "Two clips of which one is used",
        "error",
        "tf_keras.optimizers.RMSprop takes several clips and applies the first of clipnorm, global_clipnorm and "
        "clipvalue.",
        "Give one.",
        _calls("tf_keras.optimizers.RMSprop", "clipnorm=1.0, clipvalue=0.5", "clipnorm=1.0"),
    ),
    "U210": Code(
        "Arguments that exclude each other",
        "error",
        "The class raises an error when both are given.",
        "Give one.",
        _calls("keras.optimizers.RMSprop", "clipnorm=1.0, clipvalue=0.5", "clipnorm=1.0"),
    ),
    "U211": Code(
        "Argument that does nothing alone",
        "warning",
        "optax.rmsprop looks ahead along the momentum; without momentum, nesterov=True changes nothing.",
        "Give the other argument, too, or drop this one.",
        _calls("optax.rmsprop", "0.01, nesterov=True", "0.01, nesterov=True, momentum=0.9"),
    ),
    "U212": Code(
        "Value in a group that the class checks elsewhere only",
        "error",
        "The constructor refuses such a value for all parameters, and takes it without a word in a parameter group.",
        "Write a value that the constructor takes.",
        _calls("torch.optim.RMSprop", '[{"params": w, "eps": -1.0}]', '[{"params": w, "eps": 1e-8}]'),
    ),
    "U213": Code(
        "Key of a group that is ignored",
        "error",
        "Keys that the class does not know are kept in the group, and nothing reads them.",
        "Write the key that the class reads.",
        _calls(
            "paddle.optimizer.RMSProp",
            '0.1, parameters=[{"params": w, "lr": 0.5}]',
            '0.1, parameters=[{"params": w, "learning_rate": 0.5}]',
        ),
    ),
    "U214": Code(
        "None in a group that disables nothing",
        "error",
        "In a group of Paddle's, weight_decay=None means the optimizer's own weight decay.",
        "Write 0.0.",
        _calls(
            "paddle.optimizer.RMSProp",
            '0.1, weight_decay=0.01, parameters=[{"params": w, "weight_decay": None}]',
            '0.1, weight_decay=0.01, parameters=[{"params": w, "weight_decay": 0.0}]',
        ),
    ),
    "U215": Code(
        "Weight decay that spares parameters by their names",
        "warning",
        "mindspore.nn.RMSProp leaves out parameters with beta or gamma in their names, unless they are grouped.",
        "Group the parameters to say which are decayed.",
        _calls(
            "mindspore.nn.RMSProp",
            "params, weight_decay=0.01",
            '[{"params": params, "weight_decay": 0.01}]',
        ),
    ),
    "U216": Code(
        "None in place of a number, taken without a word",
        "warning",
        "optax.rmsprop(None) is meant for a chain that scales the steps by itself; alone it goes uphill.",
        "Write the number.",
        _calls("optax.rmsprop", "None", "0.001"),
    ),
    "U301": Code(
        "Epsilon that is 0 in the dtype of the weights",
        "warning",
        "Rounded to float16, everything up to 2**-25 (3e-8) is 0; PyTorch's default of 1e-8 is, and a gradient of 0 "
        "then gives NaN at the first step.",
        "Raise epsilon, or keep the weights in a wider dtype.",
        _calls("torch.optim.RMSprop", "params", "params, eps=1e-7", dtype="float16"),
    ),
    "U302": Code(
        "Epsilon of 0",
        "warning",
        "A gradient that is 0, of an unused embedding row or a dead unit, is divided by a mean square of 0: NaN.",
        "Write a positive epsilon.",
        _calls("torch.optim.RMSprop", "params, eps=0.0", "params, eps=1e-8"),
    ),
    "U303": Code(
        "Centered, and an epsilon that rounding can exceed",
        "warning",
        "While a gradient stays the same, v - a*a tends to 0, and rounding makes it negative by up to "
        "2.2 u / (1 - rho) of the squared gradient (u: half a unit in the last place). Its root is then NaN. An "
        "epsilon inside the root that is larger prevents it; an epsilon outside never does.",
        'Raise an epsilon inside the root, or use unirms.build with negative_variance="clamp".',
        _calls("keras.optimizers.RMSprop", "centered=True", "centered=True, epsilon=1e-5"),
    ),
    "U304": Code(
        "Momentum of 1 or more",
        "warning",
        "The buffer forgets nothing, or grows by itself, and the weights run away.",
        "Write a momentum below 1.",
        _calls("torch.optim.RMSprop", "params, momentum=1.0", "params, momentum=0.9"),
    ),
    "U305": Code(
        "Rho of 1",
        "warning",
        "The mean square never leaves its first value: from 0 the gradient is divided by epsilon alone, from 1 by 1.",
        "Write a rho below 1.",
        _calls("torch.optim.RMSprop", "params, alpha=1.0", "params, alpha=0.99"),
    ),
    "U306": Code(
        "Centered with a rho of 0",
        "warning",
        "The mean square and the mean are those of one gradient, whose variance is 0: it is divided by epsilon alone.",
        "Write a rho above 0, or drop centered.",
        _calls("keras.optimizers.RMSprop", "centered=True, rho=0.0, epsilon=1e-3", "rho=0.0, epsilon=1e-3"),
    ),
    "U401": Code(
        "Epsilon placed by element index",
        "warning",
        "The plain kernel of mindspore.nn.RMSProp on CPU (2.0 to 2.10) adds epsilon outside the root in blocks of 8 "
        "elements and inside for the rest; which elements those are changes during a run.",
        'Use unirms.build(…, policy="exact"), or the centered class.',
        _calls("mindspore.nn.RMSProp", "params, epsilon=1e-3", "params, epsilon=1e-3, centered=True"),
    ),
    "U402": Code(
        "Repeated rows of a sparse gradient",
        "warning",
        "Keras 3 on TensorFlow squares the rows of an IndexedSlices one by one: the mean square of an id that occurs "
        "twice in a batch gets two squares instead of the square of the sum. With a clip, Keras 2 (tf_keras) clips "
        "these rows one by one and adds them up afterwards.",
        'Use unirms.build(…, policy="exact"), or dense gradients.',
        Example("keras.optimizers.RMSprop()\n", "tf_keras.optimizers.legacy.RMSprop()\n"),
    ),
    "U403": Code(
        "Hyperparameters rounded to float32",
        "warning",
        "The class passes some hyperparameters through float32 even where the weights are float64.",
        'Use unirms.build(…, policy="exact"), or values that float32 can hold.',
        _calls(
            "paddle.optimizer.RMSProp",
            "0.1, rho=0.9, weight_decay=0.01",
            "0.1, rho=0.875, epsilon=0.0009765625, weight_decay=0.01",
            dtype="float64",
        ),
    ),
    "U404": Code(
        "Rows of a sparse gradient that are not updated",
        "warning",
        "Paddle's kernel for the gradient of an Embedding(sparse=True) finds rows by bisection, and nothing has sorted "
        "them where no id is repeated: for the ids 2 and 0, row 0 stays as it is. Paddle 1.8.5 and 3.3.1 do so on CPU.",
        'Use unirms.build(…, policy="exact"), or Embedding(sparse=False).',
        Example("paddle.optimizer.RMSProp(learning_rate=0.1)\n", "torch.optim.RMSprop(params, lr=0.1)\n"),
    ),
    "U501": Code(
        "File that cannot be read",
        "error",
        "It is missing, not text, or larger than a recipe can be.",
        "Name another file.",
        Example(None, "_target_: torch.optim.RMSprop\n", "recipe.yaml"),
    ),
    "U502": Code(
        "Malformed file",
        "error",
        "It is not the YAML, JSON, TOML or Python that its name says.",
        "Correct the syntax.",
        Example("torch.optim.RMSprop(params, lr=\n", "torch.optim.RMSprop(params, lr=0.1)\n"),
    ),
    "U503": Code(
        "Made by a newer unirms",
        "error",
        "The version of its schema is newer than this unirms reads.",
        "Upgrade with: pip install -U unirms.",
        Example("unirms: 99\nrho: 0.9\n", "unirms: 1\nrho: 0.9\n", "optimizer.yaml"),
    ),
    "U504": Code(
        "No recipe that can be read",
        "error",
        "The file states no RMSProp in a format that unirms reads, or leaves open what it is.",
        "Name a file that does, or correct the name of the class.",
        Example("optimizer: SGD\nlr: 0.1\n", "_target_: torch.optim.RMSprop\nlr: 0.1\n", "recipe.yaml"),
    ),
    "U505": Code(
        "The tool does something else with it",
        "warning",
        "The tool that reads the file ignores a setting, or passes a default of its own.",
        "Say it in the way that the tool follows.",
        Example(
            "--optim rmsprop --optim_args alpha=0.9 --max_grad_norm 0 --lr_scheduler_type constant\n",
            "--optim rmsprop --max_grad_norm 0 --lr_scheduler_type constant\n",
            "train.sh",
        ),
    ),
}
