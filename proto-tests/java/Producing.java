import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.IsolationLevel;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Writes what a spec says, the same bytes from the same seed: plain, idempotent, transactional, and until compacted. */
final class Producing {
    private Producing() {}

    static void register(Map<String, Driver.Command> commands) {
        commands.put("produce", Producing::produce);
        commands.put("transact", Producing::transact);
        commands.put("compact", Producing::compact);
    }

    static KafkaProducer<byte[], byte[]> producer(JsonNode args, String transactionalId) {
        Properties props = new Properties();
        props.put(ProducerConfig.BOOTSTRAP_SERVERS_CONFIG, args.get("bootstrap").asText());
        props.put(ProducerConfig.ACKS_CONFIG, "all");
        props.put(ProducerConfig.ENABLE_IDEMPOTENCE_CONFIG, args.path("idempotent").asBoolean(true));
        props.put(ProducerConfig.COMPRESSION_TYPE_CONFIG, args.path("codec").asText("none"));
        props.put(ProducerConfig.BATCH_SIZE_CONFIG, args.path("batch_size").asInt(16_384));
        props.put(ProducerConfig.LINGER_MS_CONFIG, args.path("linger_ms").asInt(5));
        props.put(ProducerConfig.MAX_REQUEST_SIZE_CONFIG, args.path("max_request_size").asInt(8 << 20));
        props.put(ProducerConfig.DELIVERY_TIMEOUT_MS_CONFIG, "240000");
        props.put(ProducerConfig.REQUEST_TIMEOUT_MS_CONFIG, "60000");
        props.put(ProducerConfig.MAX_BLOCK_MS_CONFIG, "120000");
        if (transactionalId != null) {
            props.put(ProducerConfig.TRANSACTIONAL_ID_CONFIG, transactionalId);
            props.put(ProducerConfig.TRANSACTION_TIMEOUT_CONFIG, args.path("transaction_timeout_ms").asInt(60_000));
        }
        return new KafkaProducer<>(props, new ByteArraySerializer(), new ByteArraySerializer());
    }

    /** Sends, and remembers the first failure and how many were acknowledged. */
    static final class Sender {
        final AtomicReference<Exception> failure = new AtomicReference<>();
        final AtomicLong acknowledged = new AtomicLong();

        void send(KafkaProducer<byte[], byte[]> producer, ProducerRecord<byte[], byte[]> record) throws Exception {
            check();
            producer.send(record, (metadata, error) -> {
                if (error != null) {
                    failure.compareAndSet(null, error);
                } else {
                    acknowledged.incrementAndGet();
                }
            });
        }

        void check() throws Exception {
            if (failure.get() != null) {
                throw failure.get();
            }
        }
    }

    private static void produce(JsonNode args, ObjectNode answer) throws Exception {
        RecordMaker maker = new RecordMaker(args);
        long count = args.get("count").asLong();
        Sender sender = new Sender();
        try (KafkaProducer<byte[], byte[]> producer = producer(args, null)) {
            long untilFlush = maker.burst(0);
            for (long index = 0; index < count; index++) {
                sender.send(producer, maker.record(index));
                if (maker.bursts() && --untilFlush == 0) {
                    producer.flush();
                    untilFlush = maker.burst(index + 1);
                }
            }
            producer.flush();
        }
        sender.check();
        answer.put("acknowledged", sender.acknowledged.get());
    }

    /** One producer of a `transact` run and the transaction it has open. */
    private static final class Writer {
        final KafkaProducer<byte[], byte[]> producer;
        long inTransaction;
        long transactions;
        long committed;
        long aborted;

        Writer(KafkaProducer<byte[], byte[]> producer) {
            this.producer = producer;
        }

        void end(int abortEvery) {
            transactions++;
            // Sent before the end, so that an aborted transaction does leave its records in the log.
            producer.flush();
            if (abortEvery > 0 && transactions % abortEvery == 0) {
                producer.abortTransaction();
                aborted += inTransaction;
            } else {
                producer.commitTransaction();
                committed += inTransaction;
            }
            inTransaction = 0;
        }
    }

    private static void transact(JsonNode args, ObjectNode answer) throws Exception {
        RecordMaker maker = new RecordMaker(args);
        long count = args.get("count").asLong();
        int perTransaction = args.path("records_per_transaction").asInt(10);
        int abortEvery = args.path("abort_every").asInt(0);
        String prefix = args.path("transactional_id").asText("driver-" + System.nanoTime());
        Sender sender = new Sender();
        List<Writer> writers = new ArrayList<>();
        try {
            for (int n = 0; n < args.path("producers").asInt(1); n++) {
                Writer writer = new Writer(producer(args, prefix + "-" + n));
                writers.add(writer);
                writer.producer.initTransactions();
            }
            // Round by turns: the transactions of all producers lie one into the other in each partition.
            for (long index = 0; index < count; index++) {
                Writer writer = writers.get((int) (index % writers.size()));
                if (writer.inTransaction == 0) {
                    writer.producer.beginTransaction();
                }
                sender.send(writer.producer, maker.record(index));
                writer.inTransaction++;
                if (writer.inTransaction == perTransaction) {
                    writer.end(abortEvery);
                }
            }
            finish(writers, args, abortEvery, answer);
        } finally {
            // Zero leaves an open transaction to the broker's time-out.
            writers.forEach(writer -> writer.producer.close(Duration.ZERO));
        }
        if (!args.path("leave_open").asBoolean(false)) {
            awaitStable(args);
        }
    }

    private static void finish(List<Writer> writers, JsonNode args, int abortEvery, ObjectNode answer) {
        long committed = 0;
        long aborted = 0;
        long open = 0;
        for (Writer writer : writers) {
            if (writer.inTransaction > 0 && args.path("leave_open").asBoolean(false)) {
                writer.producer.flush();
                open += writer.inTransaction;
            } else if (writer.inTransaction > 0) {
                writer.end(abortEvery);
            }
            committed += writer.committed;
            aborted += writer.aborted;
        }
        answer.put("committed", committed).put("aborted", aborted).put("left_open", open);
    }

    /** Writes a rolling record into each partition again and again, until the cleaner has made holes in all of them. */
    private static void compact(JsonNode args, ObjectNode answer) throws Exception {
        Set<TopicPartition> partitions;
        try (Admin admin = Topics.admin(args)) {
            partitions = Topics.partitions(admin, Driver.JSON.createArrayNode().add(args.get("topic").asText()));
        }
        long wanted = args.path("min_holes").asLong(1);
        long deadline = System.nanoTime() + args.path("timeout_ms").asLong(120_000) * 1_000_000;
        try (KafkaProducer<byte[], byte[]> producer = producer(args, null)) {
            while (true) {
                // A segment is rolled by a write that comes after segment.ms, by the records' own time.
                for (TopicPartition partition : partitions) {
                    long now = System.currentTimeMillis();
                    producer.send(new ProducerRecord<>(partition.topic(), partition.partition(), now,
                            "roll".getBytes(), ("" + now).getBytes()));
                }
                producer.flush();
                long holes = fewestHoles(args, partitions);
                if (holes >= wanted) {
                    answer.put("fewest_holes", holes);
                    return;
                }
                if (System.nanoTime() > deadline) {
                    throw new IllegalStateException("not compacted: one partition has only " + holes + " holes");
                }
                Thread.sleep(200);
            }
        }
    }

    private static long fewestHoles(JsonNode args, Set<TopicPartition> partitions) throws Exception {
        Map<TopicPartition, Long> holes = new HashMap<>();
        try (KafkaConsumer<byte[], byte[]> consumer = Consuming.consumer(args)) {
            // Compaction leaves the log start where it is: what is missing from there on was compacted away.
            consumer.beginningOffsets(partitions).forEach((partition, start) -> holes.put(partition, -start));
            consumer.endOffsets(partitions).forEach((partition, end) -> holes.merge(partition, end, Long::sum));
        }
        Consuming.readAll(args, partitions,
                record -> holes.merge(new TopicPartition(record.topic(), record.partition()), -1L, Long::sum));
        return Collections.min(holes.values());
    }

    /** A commit is answered before its markers are written: waits until readers of committed records see all. */
    private static void awaitStable(JsonNode args) throws Exception {
        try (Admin admin = Topics.admin(args)) {
            Set<TopicPartition> partitions =
                    Topics.partitions(admin, Driver.JSON.createArrayNode().add(args.get("topic").asText()));
            long deadline = System.nanoTime() + 120_000_000_000L;
            while (!Topics.ends(admin, partitions, IsolationLevel.READ_COMMITTED)
                    .equals(Topics.ends(admin, partitions, IsolationLevel.READ_UNCOMMITTED))) {
                if (System.nanoTime() > deadline) {
                    throw new IllegalStateException("the last stable offset stays below the high watermark");
                }
                Thread.sleep(20);
            }
        }
    }
}
