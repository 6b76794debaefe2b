import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedOutputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.zip.CRC32;
import java.util.zip.CRC32C;
import java.util.zip.Checksum;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** Reads topics from start to end: as a file of digests (any size), or as JSON (small topics). */
final class Consuming {
    private Consuming() {}

    interface Sink {
        void accept(ConsumerRecord<byte[], byte[]> record) throws IOException;
    }

    static void register(Map<String, Driver.Command> commands) {
        commands.put("dump", Consuming::dump);
        commands.put("records", Consuming::records);
    }

    static KafkaConsumer<byte[], byte[]> consumer(JsonNode args) {
        Properties props = new Properties();
        props.put(ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, args.get("bootstrap").asText());
        props.put(ConsumerConfig.ISOLATION_LEVEL_CONFIG, args.path("isolation").asText("read_committed"));
        props.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "none");
        props.put(ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, "false");
        props.put(ConsumerConfig.FETCH_MAX_BYTES_CONFIG, "16777216");
        props.put(ConsumerConfig.MAX_POLL_RECORDS_CONFIG, "10000");
        props.put(ConsumerConfig.DEFAULT_API_TIMEOUT_MS_CONFIG, "100000");
        return new KafkaConsumer<>(props, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    /** Every record between the start and the end that the partitions have now; control records are never seen. */
    static long readAll(JsonNode args, Set<TopicPartition> partitions, Sink sink) throws IOException {
        long deadline = System.nanoTime() + args.path("timeout_ms").asLong(300_000) * 1_000_000;
        long count = 0;
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(args)) {
            consumer.assign(partitions);
            Map<TopicPartition, Long> ends = new HashMap<>(consumer.endOffsets(partitions));
            consumer.beginningOffsets(partitions).forEach(consumer::seek);
            Set<TopicPartition> open = new HashSet<>(partitions);
            closeFinished(consumer, open, ends);
            while (!open.isEmpty()) {
                if (System.nanoTime() > deadline) {
                    throw new IOException("still reading " + open.size() + " partitions, one is " + open.iterator().next()
                            + ", after " + count + " records");
                }
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                    if (record.offset() < ends.get(new TopicPartition(record.topic(), record.partition()))) {
                        sink.accept(record);
                        count++;
                    }
                }
                closeFinished(consumer, open, ends);
            }
        }
        return count;
    }

    private static void closeFinished(KafkaConsumer<byte[], byte[]> consumer, Set<TopicPartition> open,
            Map<TopicPartition, Long> ends) {
        List<TopicPartition> finished = new ArrayList<>();
        for (TopicPartition partition : open) {
            if (consumer.position(partition) >= ends.get(partition)) {
                finished.add(partition);
            }
        }
        open.removeAll(finished);
        consumer.pause(finished);
    }

    /**
     * The file, big-endian: int32 number of topics, each as int16 length and UTF-8 name; then 49 bytes a record: int32
     * topic (index), int32 partition, int64 offset, int64 timestamp, int8 timestamp type, int64 digests of key, value
     * and headers.
     */
    private static void dump(JsonNode args, ObjectNode answer) throws Exception {
        List<String> topics = new ArrayList<>();
        args.get("topics").forEach(name -> topics.add(name.asText()));
        Set<TopicPartition> partitions;
        try (Admin admin = Topics.admin(args)) {
            partitions = Topics.partitions(admin, args.get("topics"));
        }
        Map<String, Integer> index = new HashMap<>();
        Path file = Path.of(args.get("file").asText());
        try (DataOutputStream out = new DataOutputStream(new BufferedOutputStream(Files.newOutputStream(file), 1 << 20))) {
            out.writeInt(topics.size());
            for (String topic : topics) {
                index.put(topic, index.size());
                byte[] name = topic.getBytes(StandardCharsets.UTF_8);
                out.writeShort(name.length);
                out.write(name);
            }
            Digest digest = new Digest();
            long count = readAll(args, partitions, record -> {
                out.writeInt(index.get(record.topic()));
                out.writeInt(record.partition());
                out.writeLong(record.offset());
                out.writeLong(record.timestamp());
                out.writeByte(record.timestampType().id);
                out.writeLong(digest.of(record.key()));
                out.writeLong(digest.of(record.value()));
                out.writeLong(digest.of(record.headers()));
            });
            answer.put("count", count);
        }
    }

    private static void records(JsonNode args, ObjectNode answer) throws Exception {
        Set<TopicPartition> partitions;
        try (Admin admin = Topics.admin(args)) {
            partitions = Topics.partitions(admin, args.get("topics"));
        }
        ArrayNode rows = answer.putArray("records");
        readAll(args, partitions, record -> put(rows.addObject(), record));
    }

    /** A record in full. */
    static void put(ObjectNode row, ConsumerRecord<byte[], byte[]> record) {
        row.put("topic", record.topic()).put("partition", record.partition()).put("offset", record.offset())
                .put("timestamp", record.timestamp()).put("timestamp_type", record.timestampType().id)
                .put("key", text(record.key())).put("value", text(record.value()));
        ArrayNode headers = row.putArray("headers");
        for (Header header : record.headers()) {
            headers.addArray().add(header.key()).add(text(header.value()));
        }
    }

    private static String text(byte[] bytes) {
        return bytes == null ? null : Base64.getEncoder().encodeToString(bytes);
    }

    /** Sixty-four bits out of two checksums that the JVM computes with the processor's own instructions. */
    static final class Digest {
        private final Checksum high = new CRC32C();
        private final Checksum low = new CRC32();

        private void begin() {
            high.reset();
            low.reset();
        }

        private void add(byte[] bytes) {
            // Null, empty and the boundary between two fields must all show.
            int length = bytes == null ? -1 : bytes.length;
            for (int shift = 24; shift >= 0; shift -= 8) {
                high.update(length >> shift);
                low.update(length >> shift);
            }
            if (bytes != null) {
                high.update(bytes, 0, bytes.length);
                low.update(bytes, 0, bytes.length);
            }
        }

        private long end() {
            return high.getValue() << 32 | low.getValue();
        }

        long of(byte[] bytes) {
            begin();
            add(bytes);
            return end();
        }

        long of(Iterable<Header> headers) {
            begin();
            for (Header header : headers) {
                add(header.key().getBytes(StandardCharsets.UTF_8));
                add(header.value());
            }
            return end();
        }
    }
}
