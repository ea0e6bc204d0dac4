//! The peer: a hyper server with nothing behind it, set up as our listeners are (the same TLS, protocols and socket
//! options). What it answers was there before; a POST it parses and writes again, no more.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What a GET of a path is answered with.
pub struct Answers(pub Vec<(String, Bytes)>);

/// Serves until the runtime ends; returns where.
pub async fn serve(answers: Answers, tls: Arc<rustls::ServerConfig>) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let answers = Arc::new(answers);
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(tls);
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, answers) = (acceptor.clone(), Arc::clone(&answers));
            tokio::spawn(async move {
                // Who cannot be served is told by its own failure.
                let _ = stream.set_nodelay(true);
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = hyper::service::service_fn(move |request| {
                    let answers = Arc::clone(&answers);
                    async move { Ok::<_, Infallible>(answer(&answers, request).await) }
                });
                let builder = auto::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
            });
        }
    });
    Ok(address)
}

async fn answer(answers: &Answers, request: Request<Incoming>) -> Response<Full<Bytes>> {
    if request.method() == Method::POST {
        let parsed = match request.into_body().collect().await {
            Ok(body) => serde_json::from_slice::<Value>(&body.to_bytes()),
            Err(_) => return with(StatusCode::BAD_REQUEST, Bytes::new()),
        };
        return match parsed {
            Ok(value) => with(StatusCode::CREATED, value.to_string().into()),
            Err(_) => with(StatusCode::BAD_REQUEST, Bytes::new()),
        };
    }
    match answers.0.iter().find(|(path, _)| path == request.uri().path()) {
        Some((_, bytes)) => with(StatusCode::OK, bytes.clone()),
        None => with(StatusCode::NOT_FOUND, Bytes::new()),
    }
}

fn with(code: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = code;
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
