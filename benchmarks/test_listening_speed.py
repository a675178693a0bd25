"""What listening costs beside what it cannot do without: the model's own passes over the same samples.

Peers: the teacher-forced forward pass of the decoder without capturing (limit of the capture: 1.3 of it), and the
encoder with `generate` alone (limit of listening whole, from files to rows of tables: 2.5 of it, which is that of an
organism, whose passes cost as little as a clip's log-mel and proxies). Beside them, without a limit: samples one at a
time. All by CPU time of one thread, interleaved, float32. The loader's thread by wall time, of waiting alone.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from empirical.activations import capture_batch
from empirical.checkpoints.checkpoint import load_checkpoint
from empirical.listening import listen
from empirical.loading import prefetch
from empirical.organism import list_organisms
from empirical.recognition.transcribe import encode, encoder_states, transcribe_batch
from empirical.recognition.transcribe_greedy import greedy
from empirical.speech.clips import bundled_clips
from empirical.speech.samples import Sample, make_sample, sound_pool
from tests.helpers.tiny_whisper import write_random_whisper_tiny

BATCH = 8
SIZES = {"organism-deep": (BATCH, 5), "tiny": (4, 1)}
"""Clips, and rounds."""

CAPTURE_LIMIT = 1.3
LISTEN_LIMIT = 2.5
MOST_TOKENS = 24
"""Of random weights, which never end: about what an utterance of the bundled clips has, twice."""


@pytest.fixture(scope="module", params=["organism-deep", "tiny"])
def checkpoint(request, tmp_path_factory):
    torch.set_num_threads(1)
    if request.param == "tiny":
        return load_checkpoint(write_random_whisper_tiny(Path(tmp_path_factory.mktemp("w")) / "tiny"))
    return load_checkpoint(next(one.path for one in list_organisms() if one.name == request.param))


def test_listening_beside_the_model_s_own_passes(benchmark, checkpoint):
    number, rounds = SIZES[checkpoint.name]
    clips = bundled_clips()[:number]
    pool = sound_pool(clips)
    samples = [Sample(clip, "noise", 0) for clip in clips]
    heard = [make_sample(sample, pool=pool).samples for sample in samples]
    features = torch.cat([encode(checkpoint, each)[0] for each in heard])
    states = encoder_states(checkpoint, features)
    said = transcribe_batch(checkpoint, heard, max_new_tokens=MOST_TOKENS, states=states)
    tokens = [each.tokens for each in said]
    longest = max(map(len, tokens))
    ids = torch.tensor([[*row, *(row[-1:] * (longest - len(row)))] for row in tokens])

    def forward() -> None:
        with torch.no_grad():
            checkpoint.model.model.decoder(input_ids=ids, encoder_hidden_states=states, use_cache=False)

    passes = medians(
        {"forward": forward, "capture": lambda: capture_batch(checkpoint, states, tokens)},
        3 * rounds,
        time.process_time,
    )
    whole = medians(
        {
            "model": lambda: greedy(checkpoint, encoder_states(checkpoint, features), MOST_TOKENS, None),
            "listen": lambda: listen(checkpoint, samples, pool=pool, batch=number, max_tokens=MOST_TOKENS),
            "alone": lambda: listen(checkpoint, samples, pool=pool, batch=1, max_tokens=MOST_TOKENS),
        },
        rounds,
        time.process_time,
    )
    capture = passes["capture"] / passes["forward"]
    listening = whole["listen"] / whole["model"]
    benchmark.extra_info |= {
        "capture in forward passes": round(capture, 3),
        "capture limit": CAPTURE_LIMIT,
        "listening in passes of the model": round(listening, 3),
        "listening limit": LISTEN_LIMIT,
        "one at a time in listenings of a batch": round(whole["alone"] / whole["listen"], 3),
    }
    benchmark.pedantic(lambda: capture_batch(checkpoint, states, tokens), rounds=rounds, warmup_rounds=1)
    print(
        f"\n{checkpoint.name}, {number} clips of {longest} tokens at most: capture {capture:.2f} forward passes of "
        f"{1e3 * passes['forward'] / number:.1f} ms a clip (limit {CAPTURE_LIMIT}); listening {listening:.2f} times "
        f"the encoder and generate, {1e3 * whole['model'] / number:.0f} ms a clip (limit {LISTEN_LIMIT}); one at a "
        f"time {whole['alone'] / whole['listen']:.2f} of that"
    )


def test_a_loader_of_its_own_keeps_the_model_busy(benchmark):
    """A source and a user that each wait 5 ms an item: together 1 of either's time, one after the other 2."""
    number, wait = 40, 0.005

    def source():
        for item in range(number):
            time.sleep(wait)
            yield item

    def use(depth: int) -> None:
        with prefetch(source(), depth) as items:
            for _ in items:
                time.sleep(wait)

    timed = medians({"ahead": lambda: use(BATCH), "in turn": lambda: use(0)}, 3, time.perf_counter)
    ratio = timed["ahead"] / (number * wait)
    benchmark.extra_info |= {"in times of the slower of both": round(ratio, 3), "limit": 1.5}
    benchmark.pedantic(lambda: use(BATCH), rounds=1)
    print(
        f"\nprefetched: {ratio:.2f} of the user's own time (limit 1.5), in turn {timed['in turn'] / number / wait:.2f}"
    )


def medians(timed: dict[str, Callable[[], object]], rounds: int, clock: Callable[[], float]) -> dict[str, float]:
    """Median seconds of each, run in turn after one round that is not counted."""
    found: dict[str, list[float]] = {name: [] for name in timed}
    for number in range(rounds + 1):
        for name, run in timed.items():
            start = clock()
            run()
            if number:
                found[name].append(clock() - start)
    return {name: statistics.median(times) for name, times in found.items()}
