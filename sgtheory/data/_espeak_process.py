"""The program that speaks: run by sgtheory.data._espeak in a process of its own, never imported.

Reads {"seed", "utterances": [{"text", "voice", "rate", "pitch", "pitch_range"}]} from standard input and writes, for
each utterance, its number of samples (int32) and its samples (int16, 22,050 Hz) to standard output.
"""

import ctypes
import json
import struct
import sys

import espeakng_loader

SYNCHRONOUS, DO_NOT_EXIT, UTF8 = 2, 0x8000, 1
RATE, PITCH, PITCH_RANGE = 1, 3, 4


def main():
    request = json.load(sys.stdin.buffer)
    espeak = ctypes.CDLL(espeakng_loader.get_library_path())
    if espeak.espeak_Initialize(SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), DO_NOT_EXIT) < 0:
        sys.exit("its voice data cannot be loaded")
    sound = bytearray()

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    def receive(samples, count, _events):
        if samples and count > 0:
            sound.extend(ctypes.string_at(samples, 2 * count))
        return 0

    espeak.espeak_SetSynthCallback(receive)
    espeak.espeak_ng_SetRandSeed(ctypes.c_long(request["seed"]))
    for utterance in request["utterances"]:
        if espeak.espeak_SetVoiceByName(utterance["voice"].encode()) != 0:
            sys.exit(f"there is no voice {utterance['voice']!r}")
        espeak.espeak_SetParameter(RATE, utterance["rate"], 0)
        espeak.espeak_SetParameter(PITCH, utterance["pitch"], 0)
        espeak.espeak_SetParameter(PITCH_RANGE, utterance["pitch_range"], 0)
        text = utterance["text"].encode() + b"\0"
        sound.clear()
        espeak.espeak_Synth(text, ctypes.c_size_t(len(text)), 0, 0, 0, UTF8, None, None)
        sys.stdout.buffer.write(struct.pack("<i", len(sound) // 2) + sound)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
