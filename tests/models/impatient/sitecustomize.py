"""On PYTHONPATH this gives a worker so little patience that an hour of waiting for jobs is over in
seconds: it makes its offer anew after 2.5 ms instead of 10 s."""

from worker import consumer

consumer.CALL_WAIT_S /= 4_000
