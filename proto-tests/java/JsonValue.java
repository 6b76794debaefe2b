import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/**
 * A value like those that services send each other: names that repeat in every record, words out of small vocabularies,
 * numbers, and a token of letters that nothing compresses but an entropy coder. A function of its arguments alone.
 */
final class JsonValue {
    private static final byte[] BASE64 =
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".getBytes(StandardCharsets.US_ASCII);
    private static final byte[] HEX = "0123456789abcdef".getBytes(StandardCharsets.US_ASCII);
    private static final byte[][] TYPES = bytes("order.created", "order.paid", "order.shipped", "order.cancelled");
    private static final byte[][] COUNTRIES = bytes("DE", "FR", "US", "GB", "SE", "PL", "JP", "BR");
    private static final byte[][] SEGMENTS = bytes("retail", "wholesale", "partner", "internal");
    private static final byte[] END = bytes("\"}")[0];

    private final byte[] value;
    private long word;
    private int at;

    private JsonValue(int length, long word) {
        value = new byte[length];
        // Zero would stay zero.
        this.word = word | 1;
    }

    /** `length` bytes; below some 300 they are cut off in the middle. */
    static byte[] of(long seed, long index, int length, long word) {
        JsonValue json = new JsonValue(length, word);
        json.put("{\"event_id\":\"").letters(HEX, 32).put("\",\"seed\":").put(Long.toString(seed));
        json.put(",\"sequence\":").put(Long.toString(index)).put(",\"type\":\"").put(json.one(TYPES));
        json.put("\",\"schema_version\":3,\"customer\":{\"id\":\"c-").put(json.number(1_000_000)).put("\",\"segment\":\"");
        json.put(json.one(SEGMENTS)).put("\",\"country\":\"").put(json.one(COUNTRIES)).put("\"},\"items\":[");
        json.put("{\"sku\":\"SKU-").put(json.number(10_000)).put("\",\"quantity\":").put(json.number(9));
        json.put(",\"price_cents\":").put(json.number(100_000)).put("}],\"currency\":\"EUR\",\"discount\":null,\"gift\":false,\"token\":\"");
        json.letters(BASE64, length - json.at - END.length).put(END);
        return json.value;
    }

    private static byte[][] bytes(String... words) {
        return Arrays.stream(words).map(word -> word.getBytes(StandardCharsets.US_ASCII)).toArray(byte[][]::new);
    }

    private long next() {
        word ^= word << 13;
        word ^= word >>> 7;
        word ^= word << 17;
        return word;
    }

    private byte[] one(byte[][] words) {
        return words[(int) (next() >>> 33) & (words.length - 1)];
    }

    private String number(int below) {
        return Integer.toString((int) ((next() >>> 33) % below));
    }

    private JsonValue put(String text) {
        return put(text.getBytes(StandardCharsets.US_ASCII));
    }

    private JsonValue put(byte[] text) {
        int count = Math.min(text.length, value.length - at);
        System.arraycopy(text, 0, value, at, count);
        at += count;
        return this;
    }

    /** `count` letters out of a power of two of them, ten from each word. */
    private JsonValue letters(byte[] alphabet, int count) {
        int end = Math.min(at + Math.max(count, 0), value.length);
        while (at < end) {
            long bits = next();
            for (int shift = 0; shift < 60 && at < end; shift += 6) {
                value[at++] = alphabet[(int) (bits >>> shift) & (alphabet.length - 1)];
            }
        }
        return this;
    }
}
