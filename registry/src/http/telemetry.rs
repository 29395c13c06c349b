//! What a trace says of a request: the semantic conventions of OpenTelemetry for HTTP servers,
//! and the client's own trace, which ours becomes a part of. Called by `trace`; costs nothing
//! where nobody collects traces.

use axum::extract::Request;
use http::{StatusCode, header};
use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::trace::Peer;
use crate::metrics::Exchange;

/// Makes the span a part of the client's trace, and says in it what is asked for.
pub(super) fn begun(span: &Span, request: &Request, exchange: Exchange, peer: Option<Peer>) {
    let (route, method) = (exchange.route().name(), exchange.method());
    span.record("otel.name", format!("{method} {route}"));
    span.record("otel.kind", "server");
    let text = |name: &str| request.headers().get(name)?.to_str().ok();
    if let Some(parent) = text("traceparent").and_then(|parent| remote(parent, text("tracestate")))
    {
        // It fails where nothing collects spans: then there is nothing to belong to.
        let _ = span.set_parent(Context::new().with_remote_span_context(parent));
    }
    span.set_attribute("http.request.method", method);
    span.set_attribute("http.route", route);
    span.set_attribute("url.path", request.uri().path().to_owned());
    span.set_attribute("url.scheme", "http");
    if let Some(Peer(peer)) = peer {
        span.set_attribute("client.address", peer.ip().to_string());
        span.set_attribute("client.port", i64::from(peer.port()));
    }
    if let Some(agent) = text(header::USER_AGENT.as_str()) {
        span.set_attribute("user_agent.original", agent.to_owned());
    }
}

/// Says in the span how the request was answered.
pub(super) fn answered(span: &Span, status: StatusCode) {
    span.set_attribute("http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
        span.set_attribute("error.type", status.as_u16().to_string());
    }
}

/// Returns what the header says of the client's span (W3C Trace Context, version 00 and what
/// later ones keep of it).
pub(crate) fn remote(parent: &str, state: Option<&str>) -> Option<SpanContext> {
    let mut fields = parent.trim().split('-');
    let (version, trace, span, flags) = (
        fields.next()?,
        fields.next()?,
        fields.next()?,
        fields.next()?,
    );
    let lowercase_hex = |text: &str, length| {
        let digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        text.len() == length && text.bytes().all(digit)
    };
    let sound = lowercase_hex(version, 2)
        && version != "ff"
        && lowercase_hex(trace, 32)
        && lowercase_hex(span, 16)
        && lowercase_hex(flags, 2)
        && (version != "00" || fields.next().is_none());
    if !sound {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    let state = (state.and_then(|state| state.parse().ok())).unwrap_or(TraceState::NONE);
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        flags,
        true,
        state,
    );
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn parents_are_read_as_the_recommendation_says() {
        let parent = remote(PARENT, Some("vendor=value")).unwrap();
        assert_eq!(parent.trace_id().to_string(), PARENT[3..35]);
        assert_eq!(parent.span_id().to_string(), PARENT[36..52]);
        assert!(parent.is_sampled() && parent.is_remote());
        assert_eq!(parent.trace_state().get("vendor"), Some("value"));
        assert!(
            !remote(&PARENT.replace("-01", "-00"), None)
                .unwrap()
                .is_sampled()
        );
        // A later version may say more.
        assert!(remote(&format!("{}-more", PARENT.replacen("00-", "01-", 1)), None).is_some());
    }

    #[test]
    fn what_is_no_parent_is_passed_over() {
        for text in [
            "",
            "00",
            &PARENT.replacen("00-", "ff-", 1),
            &PARENT.to_uppercase(),
            &format!("{PARENT}-more"),
            &PARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &PARENT.replace("00f067aa0ba902b7", &"0".repeat(16)),
        ] {
            assert_eq!(remote(text, None), None, "{text}");
        }
    }
}
