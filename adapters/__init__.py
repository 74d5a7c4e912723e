"""The code that needs a framework: a module for each, with the same verbs in the same order (`unirms.protocol`).

Nothing imports these modules by name: the registry loads the one that is asked for. Siblings are imported relatively,
because this folder is shipped as `unirms.adapters`.
"""
