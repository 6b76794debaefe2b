use super::*;

fn right(command: Command, pattern: Pattern, operation: Operation) -> Right {
    Right {
        resource: Resource::Topic,
        pattern,
        operation,
        commands: vec![command],
        why: format!("{} by {}", operation.name(), command.word()),
        without: None,
    }
}

#[test]
fn what_another_right_covers_is_not_said_again() {
    let all = vec![
        right(Command::Status, Pattern::literal("orders"), Operation::Describe),
        right(Command::Run, Pattern::prefix("ord"), Operation::Read),
        right(Command::Run, Pattern::literal("orders"), Operation::DescribeConfigs),
        right(Command::Failover, Pattern::literal("orders"), Operation::AlterConfigs),
        right(Command::Run, Pattern::literal("payments"), Operation::Write),
    ];
    let mut reversed = all.clone();
    reversed.reverse();
    for all in [all, reversed] {
        let least = reduce(all);
        let words: Vec<String> = least.iter().map(ToString::to_string).collect();
        let expected = ["READ on Topic with prefix ord", "ALTER_CONFIGS on Topic orders", "WRITE on Topic payments"];
        assert_eq!(words, expected);
        assert_eq!(least[0].commands, [Command::Run, Command::Status]);
        assert_eq!(least[1].commands, [Command::Run, Command::Failover]);
    }
}

#[test]
fn what_one_can_do_without_another_may_need() {
    let mut optional = right(Command::Backup, Pattern::literal("a"), Operation::Describe);
    optional.without = Some("left out".to_owned());
    assert_eq!(reduce(vec![optional.clone()])[0].without.as_deref(), Some("left out"));
    let needed = right(Command::Run, Pattern::literal("a"), Operation::Read);
    assert_eq!(reduce(vec![optional, needed])[0].without, None);
}

#[test]
fn no_row_names_what_another_operation_of_it_implies() {
    for row in RIGHTS {
        for (at, one) in row.operations.iter().enumerate() {
            for (other_at, other) in row.operations.iter().enumerate() {
                assert!(at == other_at || !one.implies(*other), "{row:?}: {} implies {}", one.name(), other.name());
            }
        }
    }
}

#[test]
fn every_command_has_rows_and_a_word_of_its_own() {
    for command in Command::ALL {
        assert_eq!(Command::of_word(command.word()), Some(command));
        assert!(command == Command::Failback || command.rows().next().is_some(), "{command:?}");
    }
    assert!(RIGHTS.iter().all(|row| Command::ALL.contains(&row.command)));
}

#[test]
fn the_line_is_one_that_a_shell_takes() {
    let to = Grantee { bootstrap: "kafka:9092", principal: "User:it's me" };
    let line =
        kafka_acls(to, Resource::Topic, &Pattern::prefix("orders."), &[Operation::Read, Operation::DescribeConfigs]);
    assert_eq!(
        line,
        "kafka-acls.sh --bootstrap-server kafka:9092 --command-config admin.properties --add --allow-principal \
         'User:it'\\''s me' --operation Read --operation DescribeConfigs --topic orders. --resource-pattern-type prefixed"
    );
    assert!(kafka_acls(to, Resource::Group, &Pattern::literal("*"), &[]).ends_with("--group '*'"));
    assert!(kafka_acls(to, Resource::Cluster, &Pattern::literal(CLUSTER_NAME), &[]).ends_with("--cluster"));
}

#[test]
fn codes_are_those_of_acls_in_words() {
    for operation in Operation::ALL {
        let right = right(Command::Run, Pattern::literal("a"), operation);
        let numbers = right.binding("User:a").numbers().expect("Kafka's words");
        assert_eq!(u32::try_from(numbers.operation), Ok(operation.code()));
    }
}
