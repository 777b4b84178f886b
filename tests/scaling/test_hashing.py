import numpy as np

from scaling.corpora.hashing import derive_key, draws, uniforms


def test_draws_are_the_published_splitmix64_stream() -> None:
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert draws(0, np.arange(3)).tolist() == expected


def test_uniforms_are_uniform() -> None:
    u = uniforms(derive_key("a", 1), np.arange(100_000))
    assert abs(u.mean() - 0.5) < 5 * np.sqrt(1 / 12 / len(u))
    assert np.abs(np.histogram(u, 20, (0, 1))[0] / 5000 - 1).max() < 5 * np.sqrt(20 / len(u))
    assert abs(np.corrcoef(u[1:], u[:-1])[0, 1]) < 5 / np.sqrt(len(u))


def test_keys_tell_their_parts_apart() -> None:
    assert len({derive_key("x", 1), derive_key("x1"), derive_key("x", "1"), derive_key("x", 1, 0)}) == 4
