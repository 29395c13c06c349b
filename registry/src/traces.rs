//! Traces, for who collects them with OpenTelemetry: where its standard variables name an
//! endpoint, spans are sent there in the background (OTLP, protobuf over HTTP). Without one,
//! nothing of this runs. Used by `serve`.

use std::{ffi::OsString, time::Duration};

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use bytes::Bytes;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::WithHttpConfig as _;
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tokio::runtime::Handle;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{Layer, Registry, filter::Targets};

const SERVICE: &str = "deploy-registry";
/// What a collector that does not answer may take of the end of the process.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// Spans on their way to a collector.
#[derive(Debug)]
pub(crate) struct Traces(SdkTracerProvider);

impl Traces {
    /// Returns what sends spans where the environment says, or nothing where it does not say so.
    /// The exporter reads the other variables by itself: headers, timeout, resource, sampler.
    ///
    /// # Errors
    /// Where the variables cannot be understood.
    pub(crate) fn start(variable: impl Fn(&str) -> Option<OsString>) -> Result<Option<Self>> {
        let said = |name: &str| variable(name).filter(|value| !value.is_empty());
        let endpoint = said("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
            .or_else(|| said("OTEL_EXPORTER_OTLP_ENDPOINT"));
        let disabled =
            said("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let other = said("OTEL_TRACES_EXPORTER").is_some_and(|value| value != "otlp");
        if endpoint.is_none() || disabled || other {
            return Ok(None);
        }
        let client = OnRuntime {
            runtime: Handle::current(),
            client: reqwest::Client::new(),
        };
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .build()
            .context("send traces where OTEL_EXPORTER_OTLP_ENDPOINT says")?;
        let mut resource = Resource::builder();
        if said("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name(SERVICE);
        }
        let version = opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.with_attribute(version).build())
            .build();
        Ok(Some(Self(provider)))
    }

    /// Returns the layer that turns spans of ours into spans of traces.
    pub(crate) fn layer(&self) -> Box<dyn Layer<Registry> + Send + Sync> {
        let ours = Targets::new().with_target("deploy_registry", LevelFilter::DEBUG);
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer(SERVICE))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_filter(ours)
            .boxed()
    }

    /// Sends what is left.
    pub(crate) async fn end(self) {
        let end = tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(SHUTDOWN));
        match end.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the last traces were not sent"),
            Err(error) => tracing::warn!(%error, "the last traces were not sent"),
        }
    }
}

/// Sends what a thread of the exporter hands over, on the runtime of the registry.
#[derive(Debug)]
struct OnRuntime {
    runtime: Handle,
    client: reqwest::Client,
}

#[async_trait]
impl HttpClient for OnRuntime {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let send = async move {
            let answer = client.execute(request.try_into()?).await?;
            let status = answer.status();
            let headers = answer.headers().clone();
            let mut response = Response::new(answer.bytes().await?);
            *response.status_mut() = status;
            *response.headers_mut() = headers;
            Ok::<_, reqwest::Error>(response)
        };
        Ok(self.runtime.spawn(send).await??)
    }
}
