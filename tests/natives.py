"""What each class computes from its own arguments, written after its source and not after the dialects.

One step of all tensors in float64, dense gradients, no parameter groups. `arguments` are those that a dialect writes:
an argument that is missing here, or one too many, is an error.
"""

import numpy as np

ZEROS, ONES = 0.0, 1.0


def torch(w, g, s, lr, *, alpha, eps, weight_decay, momentum, centered, maximize=False, inside=False):
    """`torch.optim.RMSprop`, `_single_tensor_rmsprop`; PFRL and Stable-Baselines3 add eps before the root."""
    g = -g if maximize else g
    g = g + weight_decay * w if weight_decay else g
    s["v"] = alpha * s["v"] + (1 - alpha) * g * g
    d = s["v"]
    if centered:
        s["a"] = s["a"] + (1 - alpha) * (g - s["a"])
        d = d - s["a"] ** 2
    den = np.sqrt(d + eps) if inside else np.sqrt(d) + eps
    if momentum > 0:
        s["m"] = momentum * s["m"] + g / den
        return w - lr * s["m"]
    return w - lr * g / den


def pfrl(w, g, s, lr, *, alpha, eps, weight_decay, momentum, centered):
    return torch(
        w, g, s, lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum, centered=centered, inside=True
    )


def timm(w, g, s, lr, *, alpha, eps, weight_decay, momentum, centered, decoupled_decay, lr_in_momentum):
    """`timm.optim.RMSpropTF.step`."""
    if weight_decay and decoupled_decay:
        w = w * (1 - lr * weight_decay)
    elif weight_decay:
        g = g + weight_decay * w
    s["v"] = s["v"] + (1 - alpha) * (g * g - s["v"])
    d = s["v"]
    if centered:
        s["a"] = s["a"] + (1 - alpha) * (g - s["a"])
        d = d - s["a"] ** 2
    den = np.sqrt(d + eps)
    if momentum > 0 and lr_in_momentum:
        s["m"] = momentum * s["m"] + lr * g / den
        return w - s["m"]
    if momentum > 0:
        s["m"] = momentum * s["m"] + g / den
        return w - lr * s["m"]
    return w - lr * g / den


def tensorflow(w, g, s, lr, *, decay, momentum, epsilon, centered):
    """`ApplyRMSProp` and `ApplyCenteredRMSProp` in TensorFlow's training_ops.cc; Paddle's kernel is the same."""
    s["v"] = s["v"] + (g * g - s["v"]) * (1 - decay)
    d = s["v"] + epsilon
    if centered:
        s["a"] = s["a"] + (g - s["a"]) * (1 - decay)
        d = d - s["a"] ** 2
    s["m"] = s["m"] * momentum + lr * g / np.sqrt(d)
    return w - s["m"]


def mindspore(w, g, s, lr, *, decay, momentum, epsilon, centered, loss_scale, weight_decay):
    """`mindspore.nn.RMSProp` as documented: decay before the loss scale; centered, it spares what it cannot divide."""
    g = (g + weight_decay * loss_scale * w) / loss_scale
    before, moment = w, s["m"]
    after = tensorflow(w, g, s, lr, decay=decay, momentum=momentum, epsilon=epsilon, centered=centered)
    if not centered:
        return after
    usable = s["v"] - s["a"] ** 2 + epsilon > 0
    s["m"] = np.where(usable, s["m"], moment)
    return np.where(usable, after, before)


def paddle(w, g, s, lr, *, rho, epsilon, momentum, centered, weight_decay):
    """`paddle.optimizer.RMSProp`, and that of `paddle.fluid`: a number or an object as the decay, after the clip."""
    if weight_decay is not None:
        coefficient = weight_decay if isinstance(weight_decay, float) else weight_decay.args[0]
        g = g + coefficient * (np.sign(w) if "L1" in repr(weight_decay) else w)
    return tensorflow(w, g, s, lr, decay=rho, momentum=momentum, epsilon=epsilon, centered=centered)


def fluid(w, g, s, lr, *, rho, epsilon, momentum, centered, regularization):
    return paddle(
        w, g, s, lr, rho=rho, epsilon=epsilon, momentum=momentum, centered=centered, weight_decay=regularization
    )


def keras(w, g, s, lr, *, rho, momentum, epsilon, centered, weight_decay):
    """`keras.optimizers.RMSprop.update_step`, after `_apply_weight_decay`."""
    w = w - w * weight_decay * lr if weight_decay else w
    s["v"] = rho * s["v"] + (1 - rho) * g * g
    den = s["v"] + epsilon
    if centered:
        s["a"] = rho * s["a"] + (1 - rho) * g
        den = den - s["a"] ** 2
    step = lr * g / np.sqrt(den)
    if momentum > 0:
        s["m"] = step = momentum * s["m"] + step
    return w - step


def keras_legacy(w, g, s, lr, *, rho, momentum, epsilon, centered):
    """Keras 2's `_resource_apply_dense`: TensorFlow's kernel with momentum, Python without."""
    epsilon = epsilon or 1e-7
    if momentum:
        return tensorflow(w, g, s, lr, decay=rho, momentum=momentum, epsilon=epsilon, centered=centered)
    s["v"] = rho * s["v"] + (1 - rho) * g * g
    d = s["v"]
    if centered:
        s["a"] = rho * s["a"] + (1 - rho) * g
        d = d - s["a"] ** 2
    return w - lr * g / (np.sqrt(d) + epsilon)


def optax(w, g, s, lr, *, decay, eps, initial_scale, eps_in_sqrt, centered, momentum, nesterov, bias_correction):
    """`optax.rmsprop`: scale_by_rms or scale_by_stddev, scale_by_learning_rate, trace."""
    s["t"] = s.get("t", 0) + 1
    correction = 1 - decay ** s["t"] if bias_correction else 1.0
    s["v"] = decay * s["v"] + (1 - decay) * g * g
    d = s["v"] / correction
    if centered:
        s["a"] = decay * s["a"] + (1 - decay) * g
        d = d - (s["a"] / correction) ** 2
    update = -lr * (g / np.sqrt(d + eps) if eps_in_sqrt else g / (np.sqrt(d) + eps))
    if momentum is not None:
        s["m"] = update + momentum * s["m"]
        update = update + momentum * s["m"] if nesterov else s["m"]
    return w + update


def mlx(w, g, s, lr, *, alpha, eps):
    s["v"] = alpha * s["v"] + (1 - alpha) * g * g
    return w - lr * g / (np.sqrt(s["v"]) + eps)


# dialect: its step, its first mean square, its name of the learning rate.
STEPS = {
    "torch": (torch, ZEROS, "lr"),
    "keras": (keras, ZEROS, "learning_rate"),
    "keras-legacy": (keras_legacy, ZEROS, "learning_rate"),
    "tf1": (tensorflow, ONES, "learning_rate"),
    "mindspore": (mindspore, ONES, "learning_rate"),
    "mindspore-experimental": (torch, ZEROS, "lr"),
    "paddle": (paddle, ZEROS, "learning_rate"),
    "paddle-fluid": (fluid, ZEROS, "learning_rate"),
    "timm": (timm, ONES, "lr"),
    "sb3": (pfrl, ONES, "lr"),
    "pfrl": (pfrl, ZEROS, "lr"),
    "optax": (optax, None, "learning_rate"),  # `initial_scale`
    "mlx": (mlx, ZEROS, "learning_rate"),
}


def clipped(kind, limit, grads):
    """Return gradients clipped by "value", "norm" or "global_norm"."""
    if kind == "value":
        return {name: np.clip(g, -limit, limit) for name, g in grads.items()}
    norms = {name: np.sqrt(np.sum(g * g)) for name, g in grads.items()}
    if kind == "global_norm":
        norms = dict.fromkeys(grads, np.sqrt(sum(norm**2 for norm in norms.values())))
    return {name: g * limit / max(norms[name], limit) for name, g in grads.items()}


def prepared(arguments, grads):
    """Return what a class does with the gradients of one update before its step, and the arguments that are left."""
    left = dict(arguments)
    scale = left.pop("loss_scale_factor", None)
    grads = grads if scale is None else {name: g / scale for name, g in grads.items()}
    for name, kind in (("clipvalue", "value"), ("clipnorm", "norm"), ("global_clipnorm", "global_norm")):
        limit = left.pop(name, None)
        grads = grads if limit is None else clipped(kind, limit, grads)
    clip = left.pop("grad_clip", None)
    if clip is not None:
        kind = {"ByValue": "value", "ByNorm": "norm", "ByGlobalNorm": "global_norm"}[
            clip.name.rpartition("Clip")[2].removeprefix("Grad")
        ]
        grads = clipped(kind, clip.args[0], grads)
    return grads, left


def run(dialect, arguments, start, stream, exempt=lambda name: False):
    """Return the weights after the stream."""
    step, first, rate = STEPS[dialect]
    left = dict(arguments)
    lr, v = left.pop(rate), left.get("initial_scale", first)
    params = dict(start)
    states = {n: {"v": np.full_like(w, v), "a": np.zeros_like(w), "m": np.zeros_like(w)} for n, w in start.items()}
    for grads in stream:
        ready, rest = prepared(left, grads)
        for name, g in ready.items():
            own = {**rest, "weight_decay": 0.0} if exempt(name) else rest
            params[name] = step(params[name], g, states[name], lr, **own)
    return params
