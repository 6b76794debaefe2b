import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConsumerGroupOffsetsResult;
import org.apache.kafka.clients.admin.ListConsumerGroupOffsetsSpec;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** Consumers that live in a group until they are told to leave and read and commit nothing, and such that read on and leave. */
final class Groups {
    private Groups() {}

    private static final Map<String, Member> MEMBERS = new ConcurrentHashMap<>();

    static void register(Map<String, Driver.Command> commands) {
        commands.put("join_group", Groups::join);
        commands.put("leave_group", Groups::leave);
        commands.put("read_on", Groups::readOn);
        commands.put("commit_offsets", Groups::commit);
        commands.put("committed_offsets", Groups::committed);
    }

    /** Answers once the member has its assignment. `protocol` is classic, consumer (KIP-848) or share (KIP-932). */
    private static void join(JsonNode args, ObjectNode answer) throws Exception {
        Member member = new Member(args);
        if (MEMBERS.putIfAbsent(key(args), member) != null) {
            throw new IllegalStateException("there is a member already: " + key(args));
        }
        member.start();
        member.awaitAssignment();
    }

    private static void leave(JsonNode args, ObjectNode answer) throws Exception {
        Member member = MEMBERS.remove(key(args));
        if (member == null) {
            throw new IllegalStateException("there is no member: " + key(args));
        }
        member.end();
    }

    /**
     * Reads on as the only member of a group: so many records, or all that there are; commits what comes behind the last one of
     * each partition, with a note, and leaves.
     */
    private static void readOn(JsonNode args, ObjectNode answer) throws Exception {
        long max = args.path("max").asLong(Long.MAX_VALUE);
        long deadline = System.nanoTime() + 120_000_000_000L;
        Properties props = new Properties();
        props.put(ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, args.get("bootstrap").asText());
        props.put(ConsumerConfig.GROUP_ID_CONFIG, args.get("group").asText());
        props.put(ConsumerConfig.GROUP_PROTOCOL_CONFIG, args.get("protocol").asText());
        props.put(ConsumerConfig.ISOLATION_LEVEL_CONFIG, "read_committed");
        props.put(ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, "false");
        props.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
        String topic = args.get("topic").asText();
        ArrayNode rows = answer.putArray("records");
        Map<TopicPartition, OffsetAndMetadata> next = new HashMap<>();
        try (var consumer = new KafkaConsumer<>(props, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(topic));
            int partitions = consumer.partitionsFor(topic).size();
            Map<TopicPartition, Long> ends = null;
            while (rows.size() < max) {
                if (System.nanoTime() > deadline) {
                    throw new IOException("still reading after " + rows.size() + " records, assigned " + consumer.assignment());
                }
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
                    if (rows.size() < max) {
                        Consuming.put(rows.addObject(), record);
                        next.put(new TopicPartition(topic, record.partition()), new OffsetAndMetadata(record.offset() + 1,
                                record.leaderEpoch(), "behind " + record.offset()));
                    }
                }
                if (consumer.assignment().size() < partitions) {
                    continue;
                }
                if (ends == null) {
                    ends = consumer.endOffsets(consumer.assignment());
                }
                boolean done = true;
                for (Map.Entry<TopicPartition, Long> end : ends.entrySet()) {
                    done &= consumer.position(end.getKey()) >= end.getValue();
                }
                if (done) {
                    break;
                }
            }
            consumer.commitSync(next);
        }
    }

    /** Commits for groups without members; `groups`: name to rows of topic, partition and offset. */
    private static void commit(JsonNode args, ObjectNode answer) throws Exception {
        List<AlterConsumerGroupOffsetsResult> asked = new ArrayList<>();
        try (Admin admin = Topics.admin(args)) {
            JsonNode groups = args.get("groups");
            groups.fieldNames().forEachRemaining(group -> {
                Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
                groups.get(group).forEach(row -> offsets.put(new TopicPartition(row.get("topic").asText(),
                        row.get("partition").asInt()), new OffsetAndMetadata(row.get("offset").asLong())));
                asked.add(admin.alterConsumerGroupOffsets(group, offsets));
            });
            for (AlterConsumerGroupOffsetsResult result : asked) {
                result.all().get(60, TimeUnit.SECONDS);
            }
        }
    }

    /** What these groups have committed, in the form that `commit_offsets` takes. */
    private static void committed(JsonNode args, ObjectNode answer) throws Exception {
        Map<String, ListConsumerGroupOffsetsSpec> asked = new HashMap<>();
        args.get("groups").forEach(group -> asked.put(group.asText(), new ListConsumerGroupOffsetsSpec()));
        ObjectNode groups = answer.putObject("groups");
        try (Admin admin = Topics.admin(args)) {
            var found = admin.listConsumerGroupOffsets(asked);
            for (String group : asked.keySet()) {
                ArrayNode rows = groups.putArray(group);
                found.partitionsToOffsetAndMetadata(group).get(60, TimeUnit.SECONDS).forEach((at, offset) -> rows
                        .addObject().put("topic", at.topic()).put("partition", at.partition()).put("offset", offset.offset()));
            }
        }
    }

    private static String key(JsonNode args) {
        return args.get("bootstrap").asText() + " " + args.get("group").asText();
    }

    private static final class Member extends Thread {
        private static final long LIMIT_S = 60;

        private final Properties props = new Properties();
        private final boolean shares;
        private final List<String> topics = new ArrayList<>();
        private final CountDownLatch assigned = new CountDownLatch(1);
        private volatile boolean ended;
        private volatile RuntimeException failure;

        Member(JsonNode args) {
            setDaemon(true);
            props.put(ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, args.get("bootstrap").asText());
            props.put(ConsumerConfig.GROUP_ID_CONFIG, args.get("group").asText());
            shares = args.get("protocol").asText().equals("share");
            if (!shares) {
                props.put(ConsumerConfig.GROUP_PROTOCOL_CONFIG, args.get("protocol").asText());
                props.put(ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, "false");
                props.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
            }
            args.get("topics").forEach(topic -> topics.add(topic.asText()));
        }

        @Override
        public void run() {
            try {
                if (shares) {
                    share();
                } else {
                    consume();
                }
            } catch (RuntimeException error) {
                failure = error;
                assigned.countDown();
            }
        }

        private void consume() {
            try (var consumer = new KafkaConsumer<>(props, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
                consumer.subscribe(topics);
                while (!ended) {
                    consumer.poll(Duration.ofMillis(100));
                    if (!consumer.assignment().isEmpty()) {
                        assigned.countDown();
                    }
                }
            }
        }

        /** Does not tell its assignment. */
        private void share() {
            try (var consumer = new KafkaShareConsumer<>(props, new ByteArrayDeserializer(),
                    new ByteArrayDeserializer())) {
                consumer.subscribe(topics);
                while (!ended) {
                    consumer.poll(Duration.ofMillis(100));
                    assigned.countDown();
                }
            }
        }

        void awaitAssignment() throws Exception {
            if (!assigned.await(LIMIT_S, TimeUnit.SECONDS)) {
                throw new IOException("no assignment within " + LIMIT_S + " s");
            }
            if (failure != null) {
                throw failure;
            }
        }

        /** Closing the consumer leaves the group. */
        void end() throws Exception {
            ended = true;
            join(LIMIT_S * 1_000);
            if (failure != null) {
                throw failure;
            }
        }
    }
}
