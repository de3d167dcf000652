//! Owns the answer to a scraper: one HTTP request, one response, end of connection.

use std::rc::Rc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::log::Log;
use crate::metrics::text_of;

/// Octets of a request at most.
const REQUEST_SIZE_MAX: usize = 8192;
/// How long a scraper may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Scrapers at once; further ones are closed at once, for each takes a descriptor.
const SCRAPERS_MAX: usize = 64;

/// Answers whoever comes to `listener`, which does not block.
pub(super) async fn run(listener: std::net::TcpListener, registry: Rc<Registry>, log: Log) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            log.error("metrics_unavailable", format_args!("no metrics: {error}"))
                .text("reason", error.to_string());
            return;
        }
    };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Each answer under way holds the registry.
                if Rc::strong_count(&registry) > SCRAPERS_MAX {
                    continue;
                }
                let registry = Rc::clone(&registry);
                tokio::task::spawn_local(async move {
                    // A scraper that goes away has no metrics.
                    let _ = tokio::time::timeout(PATIENCE, answer(stream, &registry)).await;
                });
            }
            // Such as for want of descriptors: some will be free later.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn answer(mut stream: TcpStream, registry: &Registry) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !is_whole(&request) && request.len() < REQUEST_SIZE_MAX {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let response = response_to(&request, || text_of(registry));
    stream.write_all(response.as_bytes()).await
}

fn is_whole(request: &[u8]) -> bool {
    memchr::memmem::find(request, b"\r\n\r\n").is_some()
}

fn response_to(request: &[u8], metrics: impl FnOnce() -> String) -> String {
    let mut words = request.split(|octet| *octet == b' ');
    let (status, kind, body) = match (words.next(), words.next()) {
        (Some(b"GET"), Some(b"/metrics")) => {
            ("200 OK", "application/openmetrics-text; version=1.0.0; charset=utf-8", metrics())
        }
        (Some(b"GET"), Some(_)) => ("404 Not Found", "text/plain", "metrics are at /metrics\n".to_owned()),
        _ => ("400 Bad Request", "text/plain", "only GET\n".to_owned()),
    };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_metrics_are_there() {
        for (request, wanted) in [
            ("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 OK\r\n"),
            ("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 404 Not Found\r\n"),
            ("POST /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n"),
            ("", "HTTP/1.1 400 Bad Request\r\n"),
        ] {
            let response = response_to(request.as_bytes(), || "text".to_owned());
            assert!(response.starts_with(wanted), "{request:?}: {response}");
        }
    }
}
