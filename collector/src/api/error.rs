//! The one place where failures become HTTP: a short stable code and message for the client, the full
//! cause for the log.
//!
//! ```json
//! {"error": {"code": "parameter", "message": "limit: invalid digit found in string"}}
//! ```

use super::readers::ReadError;
use axum::Json;
use axum::extract::{FromRequestParts, Query};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::json;

/// Why a request has no answer.
#[derive(Debug)]
pub(crate) enum ApiError {
    /// No such route.
    NoRoute,
    /// The route has no such method.
    NoMethod,
    /// A query parameter is missing, unknown or wrong; says which and how.
    Parameter(String),
    /// The request names a host that this socket does not serve.
    ForeignHost,
    /// As many requests are under way as the collector serves at once.
    Busy,
    /// The state could not be read; the cause is for the log.
    State(ReadError),
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Busy => Self::Busy,
            error => Self::State(error),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, code, message) = match self {
            Self::NoRoute => (
                StatusCode::NOT_FOUND,
                "not_found",
                "there is nothing here; the API is below /api/v1".into(),
            ),
            Self::NoMethod => (
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "everything here is read with GET".into(),
            ),
            Self::Parameter(message) => (StatusCode::BAD_REQUEST, "parameter", message),
            Self::ForeignHost => (
                StatusCode::MISDIRECTED_REQUEST,
                "foreign_host",
                "this socket answers to localhost, 127.0.0.1 and [::1] only".into(),
            ),
            Self::Busy => (
                StatusCode::SERVICE_UNAVAILABLE,
                "busy",
                "too many requests at once; try again".into(),
            ),
            Self::State(cause) => {
                tracing::error!(%cause, "state not read for a request");
                (
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "internal",
                    "the collector could not read its state; its log says why".into(),
                )
            }
        };
        let body: String = message;
        (status, Json(json!({"error": {"code": code, "message": body}}))).into_response()
    }
}

/// Query parameters, refused in this API's own form.
pub(crate) struct Parameters<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Query::try_from_uri(&parts.uri)
            .map(|Query(parameters)| Self(parameters))
            .map_err(|rejection| {
                let cause = std::error::Error::source(&rejection).map(ToString::to_string);
                ApiError::Parameter(cause.unwrap_or_else(|| rejection.body_text()))
            })
    }
}
