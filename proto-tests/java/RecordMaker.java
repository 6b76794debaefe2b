import com.fasterxml.jackson.databind.JsonNode;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;

/** Makes record number `index` of a spec: a function of the seed and the index alone. */
final class RecordMaker {
    private static final byte[] ALPHABET =
            "etaoin shrdlu,{}:\"0123456789abcdefghijklmnopqrstuvwxyzETAOIN----".getBytes(StandardCharsets.US_ASCII);

    private final String topic;
    private final boolean json;
    private final long seed;
    private final int partitions;
    private final int partition;
    private final int valueMin;
    private final int valueMax;
    private final int keys;
    private final double nullKeys;
    private final double nullValues;
    private final int headersMax;
    private final long timestamp;
    private final long timestampStep;
    private final int burstMin;
    private final int burstMax;

    RecordMaker(JsonNode spec) {
        topic = spec.get("topic").asText();
        json = spec.path("kind").asText("text").equals("json");
        seed = spec.path("seed").asLong(1);
        partitions = spec.path("partitions").asInt(1);
        partition = spec.path("partition").asInt(-1);
        valueMin = spec.path("value_min").asInt(100);
        valueMax = spec.path("value_max").asInt(100);
        keys = spec.path("keys").asInt(1_000);
        nullKeys = spec.path("null_keys").asDouble(0);
        nullValues = spec.path("null_values").asDouble(0);
        headersMax = spec.path("headers_max").asInt(0);
        timestamp = spec.path("timestamp").asLong(0);
        timestampStep = spec.path("timestamp_step").asLong(1);
        burstMin = spec.path("burst_min").asInt(0);
        burstMax = spec.path("burst_max").asInt(0);
    }

    /** SplitMix64: any number of independent draws per record without keeping state. */
    private long draw(long index, int which) {
        long z = seed * 0x9E3779B97F4A7C15L + index * 0xD1B54A32D192ED03L + which * 0x8CB92BA72F3D8DD7L;
        z = (z ^ (z >>> 30)) * 0xBF58476D1CE4E5B9L;
        z = (z ^ (z >>> 27)) * 0x94D049BB133111EBL;
        return z ^ (z >>> 31);
    }

    private boolean chance(long index, int which, double share) {
        return (draw(index, which) >>> 11) * 0x1.0p-53 < share;
    }

    private int between(long index, int which, int min, int max) {
        return min + (int) Long.remainderUnsigned(draw(index, which), max - min + 1L);
    }

    /** Whether the producer is flushed after bursts, which makes a burst into one batch where it fits. */
    boolean bursts() {
        return burstMax > 0;
    }

    long burst(long index) {
        return burstMax > 0 ? between(index, 1, Math.max(1, burstMin), burstMax) : 0;
    }

    ProducerRecord<byte[], byte[]> record(long index) {
        // With bursts a whole run goes to one partition: batches then have the length that the burst has.
        int target = partition >= 0 ? partition : (int) (bursts() ? index / burstMax % partitions : index % partitions);
        byte[] key = chance(index, 2, nullKeys) ? null
                : ("key-" + between(index, 3, 0, keys - 1)).getBytes(StandardCharsets.US_ASCII);
        byte[] value = chance(index, 4, nullValues) ? null : json ? JsonValue.of(seed, index, length(index), draw(index, 6))
                : value(index);
        Long time = timestamp == 0 ? null : timestamp + index * timestampStep;
        return new ProducerRecord<>(topic, target, time, key, value, headers(index));
    }

    private int length(long index) {
        return between(index, 5, valueMin, valueMax);
    }

    private byte[] value(long index) {
        byte[] value = new byte[length(index)];
        byte[] head = ("{\"seed\":" + seed + ",\"index\":" + index + ",\"text\":\"").getBytes(StandardCharsets.US_ASCII);
        System.arraycopy(head, 0, value, 0, Math.min(head.length, value.length));
        long word = draw(index, 6);
        int at = head.length;
        while (at < value.length) {
            word ^= word << 13;
            word ^= word >>> 7;
            word ^= word << 17;
            // Ten letters of six bits from each word: text that compresses, though not to nothing.
            for (int shift = 0; shift < 60 && at < value.length; shift += 6) {
                value[at++] = ALPHABET[(int) (word >>> shift) & 63];
            }
        }
        return value;
    }

    private List<Header> headers(long index) {
        List<Header> headers = new ArrayList<>();
        int count = headersMax == 0 ? 0 : between(index, 7, 0, headersMax);
        for (int n = 0; n < count; n++) {
            // Three names for all: duplicates are common, and their order carries meaning.
            String name = "header-" + between(index, 100 + n, 0, 2);
            byte[] value = chance(index, 200 + n, 0.2) ? null : Long.toHexString(draw(index, 300 + n)).getBytes();
            headers.add(new RecordHeader(name, chance(index, 400 + n, 0.1) ? new byte[0] : value));
        }
        return headers;
    }
}
