"""Spans by OpenTelemetry, sent to a collector as OTLP over HTTP, in batches, by a thread."""

import contextvars
from typing import Literal, Self

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from control import __version__

Kind = Literal["SERVER", "CONSUMER", "INTERNAL"]
Value = str | int | float | bool
_W3C = TraceContextTextMapPropagator()
_SEND_S = 5.0


class Tracing:
    """Makes the spans of one process; ``url`` is the collector's, with its path."""

    def __init__(self, url: str, *, process: str, instance: str) -> None:
        about = {
            "service.name": f"drawbridge-{process}",
            "service.version": __version__,
            "service.instance.id": instance,
        }
        self._provider = TracerProvider(resource=Resource.create(about), shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=url, timeout=_SEND_S)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("drawbridge", __version__)

    def begin(self, name: str, kind: Kind, traceparent: str | None, **attributes: Value) -> "Span":
        """A span, below the one that ``traceparent`` names; that one's sampling decision holds.

        ``__`` in the name of an attribute stands for a dot.
        """
        parent = _W3C.extract({"traceparent": traceparent or ""}, contexts.Context())
        span = self._tracer.start_span(name, parent, SpanKind[kind], attributes=_dotted(attributes))
        return Span(self, span)

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


class Span:
    """A piece of work that has begun."""

    def __init__(self, tracing: Tracing, span: trace.Span) -> None:
        self._tracing = tracing
        self._span = span

    @property
    def traceparent(self) -> str:
        """What names it to others, as W3C Trace Context has it."""
        carrier: dict[str, str] = {}
        _W3C.inject(carrier, trace.set_span_in_context(self._span, contexts.Context()))
        return carrier["traceparent"]

    def context(self) -> contextvars.Context:
        """The present context, in which further spans are below this one."""
        found = contextvars.copy_context()
        found.run(contexts.attach, trace.set_span_in_context(self._span))
        return found

    def below(self, name: str) -> "Span":
        """A span within this one."""
        return self._tracing.begin(name, "INTERNAL", self.traceparent)

    def end(self, failed: str | None = None, **attributes: Value) -> None:
        """It is done; ``failed`` says in a word what went wrong."""
        self._span.set_attributes(_dotted(attributes))
        if failed is not None:
            self._span.set_attribute("error.type", failed)
            self._span.set_status(StatusCode.ERROR, failed)
        self._span.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.end(None if kind is None else kind.__name__)


def _dotted(attributes: dict[str, Value]) -> dict[str, Value]:
    return {name.replace("__", "."): value for name, value in attributes.items()}
