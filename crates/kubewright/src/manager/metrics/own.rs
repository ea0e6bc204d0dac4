//! Figures of the program's own, written beside the runtime's. What a program writes is passed on as it is.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::controller::panic_message;

/// Writes figures in Prometheus' text format.
pub(crate) type Figures = Box<dyn Fn(&mut String) + Send + Sync>;

/// Writes what each of them does. One that panics has written nothing.
pub(super) fn write(all: &[Figures], out: &mut String) {
    for figures in all {
        let mut text = String::new();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| figures(&mut text))) {
            let message = panic_message(&*panic);
            tracing::error!(message, "what writes metrics panicked");
            continue;
        }
        out.push_str(&text);
        if !text.is_empty() && !text.ends_with('\n') {
            out.push('\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_the_program_end_in_lines_and_those_that_panic_are_left_out() {
        let figures: Vec<Figures> = vec![
            Box::new(|out| out.push_str("# TYPE a counter\na 1")),
            Box::new(|out| {
                out.push_str("half a li");
                panic!("a bug")
            }),
            Box::new(|_| {}),
            Box::new(|out| out.push_str("b 2\n")),
        ];
        let mut out = "runtime 0\n".to_owned();
        write(&figures, &mut out);
        assert_eq!(out, "runtime 0\n# TYPE a counter\na 1\nb 2\n");
    }
}
