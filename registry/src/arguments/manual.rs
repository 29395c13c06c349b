//! What `--help` and the manual page say behind the flags.

/// Examples, environment, signals, files and exit codes.
pub(super) const TEXT: &str = "\
Examples:
  Serve a directory to this machine, on the usual port:
      deploy-registry -dir /var/lib/deploy-registry -anonymous write
  Take what is free, and tell a script where:
      deploy-registry -addr localhost:0 -addr-file addr -memory -anonymous write
  Keep the access log apart, and greedy clients at bay:
      deploy-registry -anonymous write -access-log /var/log/registry -rate-limit 100:500
  Serve while the store must not change, as during a copy:
      deploy-registry -anonymous read -read-only
  See what it does:
      curl localhost:2022/metrics

Environment:
  RUST_LOG   How much is logged, as `debug` or `warn,deploy_registry=debug`;
             `info,object_store=warn` unless set.
  OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT
             Where traces are sent, as protobuf over HTTP; nowhere unless set. The other standard
             variables of OpenTelemetry hold as well: OTEL_EXPORTER_OTLP_HEADERS,
             OTEL_EXPORTER_OTLP_TIMEOUT, OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES,
             OTEL_TRACES_SAMPLER, OTEL_TRACES_SAMPLER_ARG, OTEL_SDK_DISABLED.
  NOTIFY_SOCKET
             Where a service manager is told that requests are taken; it sets that itself.

Signals:
  SIGTERM, SIGINT   Take no more connections, finish what runs, and end; the second one ends at
                    once.
  SIGHUP            Read the file of -config again, and open that of -access-log anew. Limits
                    hold from then on. Addresses, storage and everything else stay.

Files:
  /var/lib/deploy-registry   What everything is kept in, unless -dir names another directory. Its
                             `.lock` holds the id of the process that serves it.

Exit codes:
  0   Told to stop, and stopped.
  1   Failed; the reason is on standard error.
  2   The flags are wrong.
";
