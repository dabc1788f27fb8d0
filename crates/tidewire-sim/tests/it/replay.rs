use std::process::Command;

use tidewire_sim::{Plan, play};

#[test]
fn a_seed_gives_the_same_run_to_the_letter() {
    for seed in 1..=8 {
        let plan = Plan::draw(seed);

        let [one, other] = [(); 2].map(|()| play(&plan, false).digest);

        assert_eq!(one, other, "seed {seed}");
    }
}

#[test]
fn another_process_plays_the_same_run() {
    let [one, other] = [(); 2].map(|()| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_sim"));
        let output = program.args(["--seed", "7", "--keep", "1,3"]).output().expect("it runs");
        assert!(output.status.success());
        String::from_utf8(output.stdout).expect("text")
    });

    assert!(one.contains("digest"), "{one}");
    assert_eq!(one, other);
}

#[test]
fn a_fault_left_out_leaves_the_others_as_they_were() {
    let plan = Plan::draw(3);
    let all = plan.to_string();

    let without_first: Vec<usize> = (1..plan.faults()).collect();
    let rest = plan.keeping(&without_first).to_string();

    let faults = |text: &str| -> Vec<String> {
        let lines = text.lines().skip(1);
        lines.filter_map(|line| Some(line.split_once("] ")?.1.to_owned())).collect()
    };
    assert_eq!(faults(&all)[1..], faults(&rest));
}

#[test]
fn what_broke_something_once_breaks_nothing_any_more() {
    let seeds: [(u64, &[usize]); 2] = [(8_390, &[0, 4, 5]), (11_069, &[4, 6])];
    for (seed, faults) in seeds {
        let outcome = play(&Plan::draw(seed).keeping(faults), false);

        assert_eq!(outcome.objections, [], "seed {seed}");
    }
}
