//! The HTTP server of the metrics: GET and HEAD of `/metrics`, with bounds on everything that a client can take.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue, VARY};
use hyper::rt::ReadBufCursor;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use prometheus_client::registry::Registry;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use crate::log::{Log, name};
use crate::metrics::Format;

/// Bytes of a request's header section at most: the least that hyper allows. Longer ones get 431.
const REQUEST_SIZE_MAX: usize = 8192;
/// How long a connection may send requests. Then it has as long again to read the last response.
const PATIENCE: Duration = Duration::from_secs(5);
/// Scrapers at once; further ones are closed at once, for each takes a descriptor.
const SCRAPERS_MAX: usize = 64;
/// The path of the metrics.
const PATH: &str = "/metrics";

/// Answers everything that connects to `listener`, which does not block.
pub(super) async fn run(listener: std::net::TcpListener, registry: Rc<Registry>, log: Log) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            log.error(name::METRICS_UNAVAILABLE, format_args!("no metrics: {error}"))
                .text("reason", error.to_string());
            return;
        }
    };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Each connection holds the registry.
                if Rc::strong_count(&registry) > SCRAPERS_MAX {
                    continue;
                }
                tokio::task::spawn_local(serve(stream, Rc::clone(&registry)));
            }
            // For example, no descriptor is free: some will be later.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn serve(stream: TcpStream, registry: Rc<Registry>) {
    let service = service_fn(|request| {
        let response = respond(&request, |format| format.text(&registry));
        async { Ok::<_, Infallible>(response) }
    });
    let mut http = http1::Builder::new();
    http.max_buf_size(REQUEST_SIZE_MAX).half_close(true);
    let mut connection = pin!(http.serve_connection(Stream(stream), service));
    // A scraper that goes away, or sends what is no request, has no metrics: hyper has answered what can be answered.
    if tokio::time::timeout(PATIENCE, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(PATIENCE, connection).await;
    }
}

fn respond<B>(request: &Request<B>, metrics: impl FnOnce(Format) -> String) -> Response<String> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response =
            plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are allowed\n".to_owned());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    if !is_path_of_metrics(request.uri().path()) {
        return plain(StatusCode::NOT_FOUND, format!("metrics are at {PATH}\n"));
    }
    let accept = request.headers().get_all(ACCEPT);
    let accept: Vec<&str> = accept.into_iter().filter_map(|value| value.to_str().ok()).collect();
    let format = Format::preferred(&accept);
    let mut response = Response::new(metrics(format));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    response
}

fn plain(status: StatusCode, text: String) -> Response<String> {
    let mut response = Response::new(text);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Whether `path` is that of the metrics; percent-encoded letters are the letters (RFC 3986 §6.2.2.2).
fn is_path_of_metrics(path: &str) -> bool {
    let mut rest = path.as_bytes();
    PATH.bytes().all(|wanted| {
        let (byte, size) = match rest {
            [b'%', high, low, ..] => {
                let digit =
                    |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                match (digit(*high), digit(*low)) {
                    // A slash that is encoded separates nothing.
                    (Some(high), Some(low)) if high * 16 + low != b'/' => (high * 16 + low, 3),
                    _ => return false,
                }
            }
            [byte, ..] => (*byte, 1),
            [] => return false,
        };
        rest = rest.get(size..).unwrap_or_default();
        byte == wanted
    }) && rest.is_empty()
}

/// A stream of tokio's as hyper wants it.
struct Stream(TcpStream);

/// Bytes that are read at once.
const READ_SIZE: usize = 2048;

impl hyper::rt::Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        let mut memory = [0; READ_SIZE];
        let size = buffer.remaining().min(READ_SIZE);
        let mut own = ReadBuf::new(memory.get_mut(..size).unwrap_or_default());
        ready!(Pin::new(&mut self.0).poll_read(context, &mut own))?;
        buffer.put_slice(own.filled());
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response_to(method: &str, target: &str) -> Response<String> {
        let request = Request::builder().method(method).uri(target).body(()).unwrap();
        respond(&request, |_| "metrics\n".to_owned())
    }

    #[test]
    fn serves_only_metrics() {
        for (method, target, wanted) in [
            ("GET", "/metrics", 200),
            ("HEAD", "/metrics", 200),
            ("GET", "/metrics?name[]=a", 200),
            ("GET", "/%6detri%63s", 200),
            ("GET", "http://mx.example.com:9925/metrics", 200),
            ("GET", "/", 404),
            ("HEAD", "/", 404),
            ("GET", "/metrics/", 404),
            ("GET", "/metric", 404),
            ("GET", "%2fmetrics", 404),
            ("GET", "/metrics%00", 404),
            ("GET", "/metrics%", 404),
            ("GET", "/METRICS", 404),
            ("POST", "/metrics", 405),
            ("OPTIONS", "*", 405),
            ("DELETE", "/nothing", 405),
            ("BREW", "/metrics", 405),
        ] {
            let Ok(request) = Request::builder().method(method).uri(target).body(()) else {
                assert_eq!(wanted, 404, "{target}");
                continue;
            };
            let response = respond(&request, |_| "metrics\n".to_owned());
            assert_eq!(response.status().as_u16(), wanted, "{method} {target}");
        }
        assert_eq!(response_to("PUT", "/metrics").headers()[ALLOW], "GET, HEAD");
        assert_eq!(response_to("GET", "/metrics").body(), "metrics\n");
    }
}
