"""Speech from espeak-ng, which runs in a process of its own.

espeak-ng is licensed under the GPL and keeps its state in global variables. A process that lives for one list of
utterances keeps both away from this package, and makes the sounds a function of that list and a seed.
"""

import contextlib
import json
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from sgtheory.errors import UserError

ESPEAK_SAMPLE_RATE = 22050


@dataclass(frozen=True)
class Utterance:
    """What espeak-ng is asked to say.

    Args:
        text: words to say.
        voice: language and variant, such as ``"de+f2"``.
        rate: words per minute, from 80 to 450.
        pitch, pitch_range: from 0 to 99; 50 is that of the voice.
    """

    text: str
    voice: str
    rate: int = 175
    pitch: int = 50
    pitch_range: int = 50


def synthesise(utterances: Sequence[Utterance], seed: int = 0) -> Iterator[np.ndarray]:
    """Yield the sound of each utterance: float32 [samples] within [-1, 1) at 22,050 Hz.

    Args:
        utterances: said in this order by one process; a sound depends on those before it.
        seed: of the noise in the voices.

    Raises:
        UserError: if espeak-ng is not installed or does not know a voice.
    """
    request = json.dumps({"seed": seed, "utterances": [asdict(u) for u in utterances]}).encode()
    program = [sys.executable, str(Path(__file__).with_name("_espeak_process.py"))]
    pipe = subprocess.PIPE
    with subprocess.Popen(program, stdin=pipe, stdout=pipe, stderr=pipe) as speaker:
        try:
            with contextlib.suppress(BrokenPipeError):  # it ended early, and says why on its standard error
                speaker.stdin.write(request)
                speaker.stdin.close()
            for _ in utterances:
                header = speaker.stdout.read(4)
                if len(header) < 4:
                    reason = speaker.stderr.read().decode(errors="replace").strip().splitlines() or ["it ended early"]
                    raise UserError(
                        f"espeak-ng cannot speak ({reason[-1]}): install the package espeakng-loader, or use other data"
                    )
                (samples,) = struct.unpack("<i", header)
                yield np.frombuffer(speaker.stdout.read(2 * samples), "<i2").astype(np.float32) / 32768
        finally:
            speaker.kill()
