//! Requests that change what there is, carried out to their ends.

/// Carries something out in a task of its own: when the client goes away meanwhile, what was begun is not left half done.
pub(super) async fn to_the_end<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    match tokio::spawn(work).await.map_err(tokio::task::JoinError::try_into_panic) {
        Ok(done) => done,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        // The process ends, and nobody is told anything any more.
        Err(Err(_)) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn what_was_begun_ends_though_nobody_waits_for_it() {
        let ((go, goes), (done, is_done)) = (oneshot::channel::<()>(), oneshot::channel::<()>());
        let mut work = Box::pin(to_the_end(async {
            goes.await.expect("it goes on");
            done.send(()).expect("the test waits");
        }));
        assert!(futures::poll!(&mut work).is_pending());
        drop(work);
        go.send(()).expect("it is there");
        is_done.await.expect("it was done");
    }
}
