//! Services on threads of their own, because they wait for others: metrics for scrapers, operators' requests.

mod control;
mod pickup;
mod scrape;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;

use mailrace_io::OsDisk;
use prometheus_client::registry::Registry;
use tokio::task::LocalSet;

use crate::door::DispatcherDoor;
use crate::log::{Log, name};
use crate::worker::Workers;

pub(crate) use control::{
    CONTROL_SOCKET, LINE_IDS_MAX, Request, Subject, Total, Wish, parse_place, report as report_action, verb,
};
pub(crate) use pickup::{Pickup, PickupSettings, start as start_pickup};

/// The input of the services thread.
pub(crate) struct Services {
    /// Whether io_uring is available.
    pub(crate) has_ring: bool,
    pub(crate) metrics_listen: Option<SocketAddr>,
    pub(crate) registry: Registry,
    /// The queue's directory.
    pub(crate) queue: OsDisk,
    pub(crate) workers: Workers,
    /// What delivers, if anything does.
    pub(crate) dispatcher: Option<DispatcherDoor>,
    pub(crate) log: Log,
    /// Checks the state of the queue, without waiting for a file.
    pub(crate) refresh: Box<dyn Fn() + Send>,
    /// The interval of the checks.
    pub(crate) refresh_period: Duration,
}

/// Starts the threads, which end with the process.
///
/// # Errors
/// No thread could be started.
pub(crate) fn start(services: Services) -> io::Result<()> {
    let Services { has_ring, metrics_listen, registry, queue, log, refresh, refresh_period, .. } = services;
    if let Err(error) = control::start(&queue, services.workers, services.dispatcher, log.clone()) {
        let path = queue.root().join(CONTROL_SOCKET);
        let message = format_args!("no control socket: cannot listen on {}: {error}", path.display());
        log.error(name::CONTROL_UNAVAILABLE, message)
            .text("path", path.as_os_str().as_bytes())
            .text("reason", error.to_string());
    }
    let listener = metrics_listen.and_then(|address| match listen(address) {
        Ok(listener) => {
            let address = listener.local_addr().unwrap_or(address);
            log.info(name::METRICS, format_args!("metrics at http://{address}/metrics"))
                .text("address", address.to_string());
            Some(listener)
        }
        Err(error) => {
            report_no_metrics(&log, address, &error);
            None
        }
    });
    let thread = std::thread::Builder::new().name("services".to_owned());
    // A client that connects when the engine is ready may use up descriptors: by then the thread has its own.
    let (tell, has_begun) = mpsc::channel();
    let work = async move {
        // The thread that started it waits for this.
        let _ = tell.send(());
        run(listener, registry, log, refresh, refresh_period).await;
    };
    if has_ring {
        thread.spawn(move || tokio_uring::start(work))?;
    } else {
        // Where io_uring may not run there is tokio without it.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread.spawn(move || LocalSet::new().block_on(&runtime, work))?;
    }
    has_begun.recv().map_err(|_| io::Error::other("it has no ring of its own"))
}

fn report_no_metrics(log: &Log, address: SocketAddr, error: &io::Error) {
    let message = format_args!(
        "no metrics: cannot listen on {address}: {error}; set metrics_listen in [engine] to another address, or to \"\""
    );
    log.error(name::METRICS_UNAVAILABLE, message)
        .text("address", address.to_string())
        .text("reason", error.to_string());
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

async fn run(
    listener: Option<TcpListener>,
    registry: Registry,
    log: Log,
    refresh: Box<dyn Fn() + Send>,
    refresh_period: Duration,
) {
    if let Some(listener) = listener {
        tokio::task::spawn_local(scrape::run(listener, Rc::new(registry), log));
    }
    loop {
        tokio::time::sleep(refresh_period).await;
        refresh();
    }
}
