"""Which inputs of a model take sound: what `sound` of config.json says, and whether that fits."""

from collections.abc import Mapping

from inferry.errors import InvalidModel
from inferry.protocol.signature import Signature

DATATYPES = ("FP32", "FP64")


def settled(sound: Mapping[str, int], signature: Signature, what: str, shared: bool) -> dict[str, int]:
    """Samples per second, by input. InvalidModel where an input is none of the model's, or takes no samples.

    What is `shared` with other versions may name their inputs too.
    """
    unknown = [name for name in sound if name not in signature.inputs]
    if unknown and not (shared and sound.keys() & signature.inputs.keys()):
        raise InvalidModel(
            f"'sound' in config.json names input '{unknown[0]}', which {what} doesn't have; its inputs are "
            f"{', '.join(map(repr, signature.inputs))}"
        )
    found = {name: rate for name, rate in sound.items() if name in signature.inputs}
    for spec in (signature.inputs[name] for name in found):
        if spec.datatype.name not in DATATYPES:
            raise InvalidModel(
                f"'sound' in config.json of {what} is about input '{spec.name}' of {spec.datatype.name}, but samples "
                f"are {' or '.join(DATATYPES)} from -1 to 1"
            )
    return found
