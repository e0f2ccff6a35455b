import pytest

from t2v.data.buckets import nearest_bucket, standard_buckets


@pytest.mark.parametrize(("resolution", "multiple"), [(256, 64), (256, 32), (512, 64), (128, 16), (96, 8)])
def test_standard_buckets_have_near_equal_areas_and_divisible_sides(resolution: int, multiple: int) -> None:
    buckets = standard_buckets(resolution, multiple)
    assert (resolution, resolution) in buckets and len(buckets) >= 5
    for height, width in buckets:
        assert height % multiple == width % multiple == 0
        assert abs(height * width / resolution**2 - 1) < 0.15
        assert 0.5 <= width / height <= 2
        assert (width, height) in buckets


def test_nearest_bucket_loses_least() -> None:
    buckets = [(384, 192), (256, 256), (192, 320), (192, 384)]
    assert [nearest_bucket(aspect, buckets) for aspect in (9 / 16, 0.9, 1.2, 16 / 9, 2.4)] == [0, 1, 1, 2, 3]
