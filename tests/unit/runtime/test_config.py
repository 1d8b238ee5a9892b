"""The environment is read strictly: what would end in a traceback later is refused by name."""

import pytest

from runtime.config import ConfigError, load
from services.queue.config import QueueConfig


@pytest.mark.parametrize("url", ["", "redis://localhost", "rediss://:word@10.0.0.1:6380/1", "unix:///run/redis.sock"])
def test_what_redis_understands_is_taken(url: str) -> None:
    assert load(QueueConfig, {"REDIS_URL": url}).redis_url == url


@pytest.mark.parametrize("url", ["http://x", "localhost:6379", "redis://", "redis://x:port", "redis://x:70000", "//x"])
def test_what_is_no_redis_url_is_named_with_the_fix(url: str) -> None:
    with pytest.raises(ConfigError, match=r"environment variable REDIS_URL=.* is not redis://host:port/number"):
        load(QueueConfig, {"REDIS_URL": url})
