//! The disk that the other scenarios rescue is a real system: whole, it boots to its login prompt
//! and lets its own root in.
use crate::console::{Mark, login};
use crate::debian::{Health, ROOT_PASSWORD, debian};
use crate::lab::Lab;
use crate::vm::limit;

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let disk = lab.path("disk.img");
    lab.alone(|| debian(&disk, Health::Whole))?;
    let vm = lab.firmware()?.disk(&disk).start()?;
    vm.console.line("db7 login:", Mark::default(), limit(120))?;
    let mark = vm.console.mark();
    vm.console.play(&login("root", ROOT_PASSWORD), Mark::default(), limit(30))?;
    vm.console.line("root@db7", mark, limit(60))?;
    let mark = vm.console.mark();
    vm.console.type_line("echo failed units: $(systemctl --failed --no-legend | wc -l)")?;
    vm.console.line("failed units: 0", mark, limit(30)).map(drop)
}
