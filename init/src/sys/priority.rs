//! How much of the processor this process gets beside others.

/// Sets the nice value of this thread, -20 (most) to 19 (least). Only a wish: what is refused (a lower
/// value without privilege) changes nothing but the time that things take.
pub fn set_nice(nice: i32) {
    let _ = rustix::process::setpriority_process(None, nice);
}
