"""Synthetic speech, recordings, and data sets by name."""

import threading
import time

import h5py
import numpy as np
import pytest

pytest.importorskip("espeakng_loader", reason="espeakng-loader is not installed")
soundfile = pytest.importorskip("soundfile", reason="soundfile is not installed")

from sgtheory.data import (  # noqa: E402
    InnerEar,
    identify_dataset,
    load_shd,
    open_dataset,
    recordings_to_spikes,
    spoken_digits,
)
from sgtheory.data import _spoken_digits as module  # noqa: E402
from sgtheory.data._espeak import Utterance, synthesise  # noqa: E402
from sgtheory.data._shd import SHD_KEYS  # noqa: E402
from sgtheory.errors import ParameterError, UserError  # noqa: E402
from sgtheory.threads import map_threads  # noqa: E402

SIZES = {"train": 12, "test": 6}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folder, data sets, and the progress that was told while two threads asked for the same data."""
    folder, told, results = tmp_path_factory.mktemp("digits"), [], []

    def make():
        results.append(spoken_digits(folder, seed=3, **SIZES, progress=lambda *now: told.append(now)))

    threads = [threading.Thread(target=make) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return folder, results, told


def same(a, b):
    return all(
        np.array_equal(getattr(a, field), getattr(b, field)) for field in ("times", "units", "offsets", "labels")
    )


def test_made_once_and_read_by_the_other(made):
    folder, results, told = made
    assert told == [(i, 18) for i in range(1, 19)]
    assert same(results[0][0], results[1][0])
    assert same(results[0][1], results[1][1])
    again = spoken_digits(folder, seed=3, **SIZES, progress=lambda *_: pytest.fail("made again"))
    assert same(again[0], results[0][0])


def test_the_seed_makes_the_data(made, tmp_path):
    _, results, _ = made
    assert same(spoken_digits(tmp_path, seed=3, **SIZES)[1], results[0][1])
    assert not same(spoken_digits(tmp_path, seed=4, train=1, test=6)[1], results[0][1])


def test_format_and_statistics_are_those_of_shd(made):
    folder, ((train, test), _), _ = made
    assert train.name == test.name == "spoken digits (synthetic)"
    assert train.keys == SHD_KEYS
    assert (len(train), len(test)) == (12, 6)
    spikes = np.diff(train.offsets)
    assert 2000 < spikes.min() < spikes.max() < 16000
    for i in range(len(train)):
        times, units = train[i]
        assert 0.3 < times.max() < 1.4
        assert np.median(units) > 350  # speech is low
        assert len(np.unique(units)) > 300
    with h5py.File(folder / "spoken_digits_train_12_seed3.h5") as file:
        assert file.attrs["name"] == "spoken digits (synthetic)"
        assert (file.attrs["seed"], file.attrs["split"], file.attrs["version"]) == (3, "train", module.VERSION)
        assert "espeak-ng" in file.attrs["source"]


def test_speakers_and_classes(monkeypatch):
    """The plan of the whole data set, without sound."""
    monkeypatch.setattr(module, "synthesise", lambda utterances, seed: utterances)
    monkeypatch.setattr(module, "_recording", lambda utterance, rng: utterance)
    monkeypatch.setattr(module.InnerEar, "spikes", lambda ear, utterance, rate, rng: (utterance, rng.random()))
    train, test = (list(zip(*module._make(0, split, n), strict=True)) for split, n in ((0, 2000), (1, 500)))
    for labels, speakers, utterances, _ in (train, test):
        assert np.ptp(np.bincount(labels, minlength=20)) == 0
        for label, speaker, utterance in zip(labels, speakers, utterances, strict=True):
            language, variant = utterance.voice.split("+")
            assert variant == module.SPEAKERS[speaker].variant
            assert utterance.text.replace("ü", "ue") == SHD_KEYS[label]
            assert (language == "de") == (label >= 10)
    assert np.bincount(train[1], minlength=12).tolist() == [200, 200, 200, 200, 0, 0] + 6 * [200]
    assert np.isin(test[1], (4, 5)).mean() == 0.81
    assert len(set(train[3])) == 2000  # each sample has a stream of its own
    rates = [u.rate for u in train[2]]
    assert min(rates) >= 80
    assert np.std(rates) > 5


def test_an_interrupted_run_leaves_no_file(tmp_path):
    def interrupt(ready, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        spoken_digits(tmp_path, train=2, test=1, progress=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == [".spoken_digits.lock"]


def test_files_of_another_version_are_made_again(made, monkeypatch, tmp_path):
    spoken_digits(tmp_path, train=1, test=1)
    monkeypatch.setattr(module, "VERSION", module.VERSION + 1)
    told = []
    spoken_digits(tmp_path, train=1, test=1, progress=lambda *now: told.append(now))
    assert told == [(1, 2), (2, 2)]


@pytest.mark.parametrize("change", [{"seed": -1}, {"train": 0}, {"test": 2.0}])
def test_parameters_are_checked(tmp_path, change):
    with pytest.raises(ParameterError, match=next(iter(change))):
        spoken_digits(tmp_path, **change)


def test_speech_is_reproducible_and_differs_between_words_and_voices():
    words = [Utterance("seven", "en+f2"), Utterance("sieben", "de+f2"), Utterance("seven", "en+m3", rate=120, pitch=20)]
    first, again = (list(synthesise(words, seed=1)) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
        assert 0.2 * 22050 < len(a) < 22050
        assert 0.2 < np.abs(a).max() <= 1
    assert len({len(sound) for sound in first}) == 3
    breathy = [Utterance("zero", "en+whisper")]
    assert not np.array_equal(*(next(synthesise(breathy, seed=seed)) for seed in (1, 2)))


def test_espeak_errors_are_one_sentence(monkeypatch, tmp_path):
    with pytest.raises(UserError, match="there is no voice 'xx'") as error:
        list(synthesise([Utterance("zero", "xx")]))
    assert "\n" not in str(error.value)
    (tmp_path / "espeakng_loader.py").write_text("raise ModuleNotFoundError('it is not installed')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(UserError, match=r"it is not installed\): install the package espeakng-loader"):
        list(synthesise([Utterance("zero", "en")] * 3))


def test_closing_early_ends_the_process():
    sounds = synthesise([Utterance("zero", "en")] * 200)
    next(sounds)
    sounds.close()


def test_threads_leave_what_was_not_begun():
    begun = []

    def work(i):
        begun.append(i)
        time.sleep(0.005)
        return i

    results = map_threads(work, range(1000))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    results.close()
    assert len(begun) < 500

    def arguments():
        yield from range(1000)
        raise RuntimeError("no more")

    begun.clear()
    with pytest.raises(RuntimeError, match="no more"):
        next(map_threads(work, arguments()))
    assert len(begun) < 500


def test_auto_is_shd_if_both_files_are_there(made, tmp_path):
    folder, _, _ = made
    (tmp_path / "shd").mkdir()
    for split, samples in (("train", 12), ("test", 6)):
        content = (folder / f"spoken_digits_{split}_{samples}_seed3.h5").read_bytes()
        (tmp_path / f"shd/shd_{split}.h5").write_bytes(content)
    for directory in (tmp_path, tmp_path / "shd"):
        data = open_dataset("auto", directory)
        assert data.note is None
        assert len(data.train) == 12
        assert len(data.test) == 6
        assert data.name == "spoken digits (synthetic)"  # what the file says that it is
    for function in (open_dataset, identify_dataset):
        with pytest.raises(ParameterError, match=r"^train = 12: is not a setting of SHD, which data=auto takes"):
            function("auto", tmp_path, train=12)
    (tmp_path / "shd/shd_test.h5").unlink()
    with pytest.raises(UserError, match=r"fetch_data\.py shd"):
        open_dataset("shd", tmp_path)


def test_auto_says_what_it_uses_instead(made, tmp_path):
    folder, results, _ = made
    (tmp_path / "spoken_digits").symlink_to(folder)
    data = open_dataset("auto", tmp_path, seed=3, **SIZES)
    assert same(data.train, results[0][0])
    assert "using spoken digits (synthetic) instead" in data.note
    assert "fetch_data.py shd" in data.note
    assert "\n" not in data.note
    assert open_dataset("spoken_digits", tmp_path, seed=3, **SIZES).note is None
    assert open_dataset("randman", tmp_path, train=30, test=30, cutoff=3).name == "randman"
    with pytest.raises(ParameterError, match="name"):
        open_dataset("mnist")


@pytest.fixture
def recordings(tmp_path):
    sound = next(synthesise([Utterance("zero", "en")]))[:4000]
    for name, channels in (("no/a.wav", 1), ("yes/a.flac", 2), ("yes/b.WAV", 1)):
        path = tmp_path / "words" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.tile(sound[:, None], (1, channels)), 22050)
    (tmp_path / "words" / "notes.txt").write_text("not a recording")
    return tmp_path / "words"


def test_recordings_in_folders(recordings):
    data = recordings_to_spikes(recordings)
    assert (data.keys, data.labels.tolist(), data.name) == (("no", "yes"), [0, 1, 1], "words")
    assert data.speakers.tolist() == [-1, -1, -1]
    sound, rate = soundfile.read(recordings / "no/a.wav")
    for i in range(3):  # the sound is the same in all, and sample 1 has it in two channels
        times, units = InnerEar().spikes(sound, rate, np.random.default_rng((0, i)))
        np.testing.assert_array_equal(data[i][0], times)
        np.testing.assert_array_equal(data[i][1], units)
    assert same(data, recordings_to_spikes(recordings))
    assert recordings_to_spikes(recordings, files=["yes/b.WAV", "a.wav"]).labels.tolist() == [0, 1]
    with pytest.raises(UserError, match=r"does not contain c\.wav"):
        recordings_to_spikes(recordings, files=["c.wav", "a.wav"])


def test_recordings_of_the_heidelberg_digits(recordings):
    for path, name in (
        ("no/a.wav", "german_speaker-05_trial-2_digit-7"),
        ("yes/b.WAV", "english_speaker-11_trial-0_digit-7"),
    ):
        (recordings / path).rename(recordings / f"lang-{name}.wav")
    (recordings / "yes/a.flac").unlink()
    data = recordings_to_spikes(recordings)
    assert [data.keys[label] for label in data.labels] == ["seven", "sieben"]
    assert data.speakers.tolist() == [11, 5]


def test_recordings_that_cannot_be_used(recordings, tmp_path):
    (recordings / "yes/b.WAV").write_bytes(b"garbage")
    with pytest.raises(UserError, match=r"b\.WAV cannot be used"):
        recordings_to_spikes(recordings)
    soundfile.write(recordings / "yes/b.WAV", np.zeros(100), 22050, format="WAV")
    with pytest.raises(UserError, match=r"b\.WAV cannot be used: the sound is silent"):
        recordings_to_spikes(recordings)
    (recordings / "yes/b.WAV").rename(recordings / "b.wav")
    with pytest.raises(UserError, match=r"b\.wav has no class"):
        recordings_to_spikes(recordings)
    (tmp_path / "empty").mkdir()
    for folder, message in (("empty", "no recordings"), ("nothing", "not a folder")):
        with pytest.raises(UserError, match=message):
            recordings_to_spikes(tmp_path / folder)


def test_make_spikes_script(script, recordings, tmp_path):
    out = tmp_path / "out.h5"
    listed = tmp_path / "list.txt"
    listed.write_text("no/a.wav\nyes/a.flac\n")
    done = script("make_spikes.py", recordings, out, f"files={listed}", "name=my words", "seed=2")
    assert done.returncode == 0, done.stderr
    data = load_shd(out)
    assert (data.name, data.keys, len(data)) == ("my words", ("no", "yes"), 2)
    assert "2 samples of 2 classes" in done.stdout
    wrong = script("make_spikes.py", recordings, out, "seed=x")
    assert (wrong.returncode, wrong.stderr) == (2, "error: seed=x is not an integer of at least 0\n")
