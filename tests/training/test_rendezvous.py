"""Workers meet before TensorFlow starts, or say in one line who is missing."""

import concurrent.futures
import socket
import time

import pytest

from tf_savae.commands.launch import free_ports
from tf_savae.errors import UserError
from tf_savae.training import rendezvous


@pytest.fixture
def addresses():
  return [f"127.0.0.1:{port}" for port in free_ports(3)]


def test_all_go_on_when_the_last_one_has_come(addresses):
  with concurrent.futures.ThreadPoolExecutor(3) as pool:
    chief = pool.submit(rendezvous.gather, addresses, 20)
    first = pool.submit(rendezvous.come, addresses[0], 1, 20)
    time.sleep(0.2)
    assert not chief.done() and not first.done()
    with socket.create_connection(("127.0.0.1", int(addresses[0].rsplit(":", 1)[1]))) as probe:
      probe.sendall(b"who is there?")  # which is no worker
    rendezvous.come(addresses[0], 2, 20)
    assert chief.result(20) is first.result(20) is None


def test_a_worker_that_never_comes_is_named_to_the_chief_and_to_the_others(addresses):
  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    chief = pool.submit(rendezvous.gather, addresses, 1)
    other = pool.submit(rendezvous.come, addresses[0], 1, 1)
    with pytest.raises(UserError, match=rf"within 1 seconds: 2 at {addresses[2]}; .*--worker_timeout"):
      chief.result(20)
    with pytest.raises(
      UserError, match=r"did not begin with this worker: not all of them came within 1 seconds"
    ):
      other.result(20)


def test_a_port_that_is_taken(addresses):
  port = int(addresses[0].rsplit(":", 1)[1])
  with (
    socket.create_server(("127.0.0.1", port)),
    pytest.raises(UserError, match=rf"cannot listen .* received {addresses[0]}; name a free port"),
  ):
    rendezvous.gather(addresses, 1)


def test_a_run_that_is_going_on_is_no_chief(addresses):
  port = int(addresses[0].rsplit(":", 1)[1])
  with (
    socket.create_server(("127.0.0.1", port)) as other,
    concurrent.futures.ThreadPoolExecutor(1) as pool,
  ):
    worker = pool.submit(rendezvous.come, addresses[0], 1, 5)
    visitor, _ = other.accept()
    visitor.close()
    with pytest.raises(UserError, match="its run is going on without it"):
      worker.result(20)
