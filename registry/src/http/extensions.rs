//! `/v2/_oci/ext/discover`: which extensions there are (distribution-spec, extensions).

use axum::{
    Json,
    response::{IntoResponse as _, Response},
};
use deploy_spec::listing::{Extension, Extensions};

/// All our extensions live under one name. Most are no endpoints of their own: conditional
/// requests and waiting on the standard manifest endpoint.
pub(crate) fn discover() -> Response {
    let extensions = vec![Extension {
        name: "_deploytools".to_owned(),
        url: "https://www.rfc-editor.org/rfc/rfc9110#section-13".to_owned(),
        description:
            "Conditional PUT of manifests (If-Match, If-None-Match) and long poll of tags \
                      (If-None-Match with Prefer: wait=<seconds>) on the manifest endpoint; the log \
                      of who did what."
                .to_owned(),
        endpoints: vec![deploy_spec::audit::PATH.to_owned()],
    }];
    Json(Extensions { extensions }).into_response()
}
