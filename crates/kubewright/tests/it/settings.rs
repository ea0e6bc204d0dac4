//! Settings of a manager that can't be: each is an error that says what to change.

use kubewright::webhook::Certificates;
use kubewright::{Manager, Runnable, Uses};

use crate::canned::{Answer, Canned};

#[tokio::test]
async fn a_cluster_that_the_manager_lacks_is_an_error_that_names_it() {
    let runnable = Runnable::new("mirror", |_| async { Ok(()) }).uses_in("edge", Uses::new());
    let manager = Manager::new("op", Canned::new([Answer::refused("x")]).client()).runnable(runnable);
    let error = manager.run(std::future::pending()).await.unwrap_err().to_string();
    assert!(
        error.starts_with("runnable mirror uses a cluster \"edge\" that the manager does not have"),
        "{error}"
    );
}

#[tokio::test]
async fn health_needs_an_address_that_takes_no_token() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let manager = Manager::new("op", Canned::new([]).client())
        .secure_metrics(Certificates::own())
        .metrics_address(Some(&free))
        .health_address(Some(&free));
    let error = manager.run(std::future::pending()).await.unwrap_err().to_string();
    assert!(error.contains("health needs another address than secured metrics"), "{error}");
}
