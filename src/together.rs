//! Several futures at once on one task: portals are asked in parallel, and nothing outlives the question.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, sleep};

struct Running<F: Future> {
    futures: Vec<Pin<Box<F>>>,
    outputs: Vec<Option<F::Output>>,
}

impl<F: Future> Running<F> {
    fn new(futures: impl Iterator<Item = F>) -> Running<F> {
        let futures: Vec<_> = futures.map(Box::pin).collect();
        let outputs = futures.iter().map(|_| None).collect();
        Running { futures, outputs }
    }

    /// Polls those that have not ended; true once all have.
    fn poll(&mut self, context: &mut Context<'_>) -> bool {
        for (future, output) in self.futures.iter_mut().zip(&mut self.outputs) {
            if output.is_none()
                && let Poll::Ready(value) = future.as_mut().poll(context)
            {
                *output = Some(value);
            }
        }
        self.outputs.iter().all(Option::is_some)
    }
}

/// Runs all futures to their end and gives their outputs in the futures' order.
pub(crate) async fn together<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut running = Running::new(futures);
    poll_fn(|context| match running.poll(context) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
    running.outputs.into_iter().flatten().collect()
}

/// As [`together`], but once one output is good the others get only `grace` more; those that do not end in it are
/// dropped and give `None`.
pub(crate) async fn with_grace<F: Future>(
    futures: impl Iterator<Item = F>,
    grace: Duration,
    is_good: impl Fn(&F::Output) -> bool,
) -> Vec<Option<F::Output>> {
    let mut running = Running::new(futures);
    let mut timer = pin!(sleep(Duration::MAX));
    let mut armed = false;
    poll_fn(|context| {
        if running.poll(context) {
            return Poll::Ready(());
        }
        if !armed && running.outputs.iter().flatten().any(&is_good) {
            armed = true;
            timer.as_mut().reset(Instant::now() + grace);
        }
        match armed {
            true => timer.as_mut().poll(context),
            false => Poll::Pending,
        }
    })
    .await;
    running.outputs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(future)
    }

    #[test]
    fn outputs_keep_their_order() {
        let outputs = block_on(together((0..4_u64).map(|n| async move {
            for _ in n..4 {
                tokio::task::yield_now().await;
            }
            n
        })));
        assert_eq!(outputs, [0, 1, 2, 3]);
    }

    #[test]
    fn the_first_good_output_ends_the_patience_with_the_others() {
        let outputs = block_on(with_grace(
            (0..3).map(|n| async move {
                if n == 2 {
                    std::future::pending::<()>().await;
                }
                n
            }),
            Duration::from_millis(1),
            |n| *n == 1,
        ));
        assert_eq!(outputs, [Some(0), Some(1), None]);
    }
}
