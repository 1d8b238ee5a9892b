"""The environment is read strictly: what would end in a traceback later is refused by name."""

import pytest

from runtime.config import ConfigError, instance_of, load
from services.queue.config import QueueConfig
from services.queue.names import LogName, parse_log_name


@pytest.mark.parametrize("url", ["", "redis://localhost", "rediss://:word@10.0.0.1:6380/1", "unix:///run/redis.sock"])
def test_what_redis_understands_is_taken(url: str) -> None:
    assert load(QueueConfig, {"REDIS_URL": url}).redis_url == url


@pytest.mark.parametrize("url", ["http://x", "localhost:6379", "redis://", "redis://x:port", "redis://x:70000", "//x"])
def test_what_is_no_redis_url_is_named_with_the_fix(url: str) -> None:
    with pytest.raises(ConfigError, match=r"environment variable REDIS_URL=.* is not redis://host:port/number"):
        load(QueueConfig, {"REDIS_URL": url})


@pytest.mark.parametrize("name", ["queue-0", "Q_9", "x" * 64])
def test_a_name_of_an_instance_is_taken(name: str) -> None:
    assert load(QueueConfig, {"INSTANCE": name}).instance == name


@pytest.mark.parametrize("name", ["queue.0", "../queue", "x" * 65, "queue 0", "queue-0\n"])
def test_a_name_that_cannot_stand_in_a_file_s_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"INSTANCE=.* is not a name"):
        load(QueueConfig, {"INSTANCE": name})


@pytest.mark.parametrize("host", ["mail.example.com", "a" * 253, "host"])
def test_a_log_owned_by_an_instance_that_was_given_no_name_is_found_again(host: str) -> None:
    name = LogName("0a1b2c3d", 17, instance_of("queue", host))
    assert parse_log_name(str(name)) == name
