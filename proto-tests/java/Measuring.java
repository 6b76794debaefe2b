import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.locks.LockSupport;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.IsolationLevel;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

/** What the benchmark (proto-tests/bench) needs beyond the tests: topics by the thousand, a watch, and a steady pace. */
final class Measuring {
    private static final long TIMEOUT_S = 300;
    /** Topics in one request to the controller. */
    private static final int CHUNK = 100;

    private static volatile Watch watch;

    private Measuring() {}

    static void register(Map<String, Driver.Command> commands) {
        commands.put("create_topics", Measuring::createTopics);
        commands.put("clear", Measuring::clear);
        commands.put("one_each", Measuring::oneEach);
        commands.put("watch", Measuring::watch);
        commands.put("watched", Measuring::watched);
        commands.put("pace", Measuring::pace);
    }

    private static List<String> names(JsonNode array) {
        List<String> names = new ArrayList<>();
        array.forEach(name -> names.add(name.asText()));
        return names;
    }

    private static List<List<String>> chunks(List<String> names) {
        List<List<String>> chunks = new ArrayList<>();
        for (int from = 0; from < names.size(); from += CHUNK) {
            chunks.add(names.subList(from, Math.min(from + CHUNK, names.size())));
        }
        return chunks;
    }

    private static Set<TopicPartition> partitions(List<String> topics, int each) {
        Set<TopicPartition> all = new HashSet<>();
        for (String topic : topics) {
            for (int partition = 0; partition < each; partition++) {
                all.add(new TopicPartition(topic, partition));
            }
        }
        return all;
    }

    /** Creates topics of `partitions` each, and waits until all of them are served. */
    private static void createTopics(JsonNode args, ObjectNode answer) throws Exception {
        int partitions = args.get("partitions").asInt();
        try (Admin admin = Topics.admin(args)) {
            List<String> all = names(args.get("topics"));
            for (List<String> chunk : chunks(all)) {
                List<NewTopic> topics = new ArrayList<>();
                chunk.forEach(name -> topics.add(new NewTopic(name, partitions, (short) 1)));
                admin.createTopics(topics).all().get(TIMEOUT_S, TimeUnit.SECONDS);
            }
            for (String topic : all) {
                Topics.awaitLeaders(admin, topic, partitions);
            }
        }
    }

    /** Deletes every topic of users but those named. */
    private static void clear(JsonNode args, ObjectNode answer) throws Exception {
        try (Admin admin = Topics.admin(args)) {
            Set<String> doomed = new HashSet<>(admin.listTopics().names().get(TIMEOUT_S, TimeUnit.SECONDS));
            names(args.get("keep")).forEach(doomed::remove);
            for (List<String> chunk : chunks(new ArrayList<>(doomed))) {
                for (var deleted : admin.deleteTopics(chunk).topicNameValues().values()) {
                    try {
                        deleted.get(TIMEOUT_S, TimeUnit.SECONDS);
                    } catch (ExecutionException refused) {
                        // A broker lists for a moment what is deleted already.
                        if (!(refused.getCause() instanceof UnknownTopicOrPartitionException)) {
                            throw refused;
                        }
                    }
                }
            }
            answer.put("deleted", doomed.size());
        }
    }

    /** Writes one record of 100 bytes into each partition of these topics. */
    private static void oneEach(JsonNode args, ObjectNode answer) throws Exception {
        Producing.Sender sender = new Producing.Sender();
        try (KafkaProducer<byte[], byte[]> producer = Producing.producer(args, null)) {
            for (TopicPartition to : partitions(names(args.get("topics")), args.get("partitions").asInt())) {
                sender.send(producer, new ProducerRecord<>(to.topic(), to.partition(), null, new byte[100]));
            }
            producer.flush();
        }
        sender.check();
        answer.put("acknowledged", sender.acknowledged.get());
    }

    /** Follows the end offsets of topics on the target until they have reached those that the source has now. */
    private static final class Watch implements Runnable {
        final Admin admin;
        final long pollMs;
        /** What is still missing: the end that each target partition shall reach. */
        final Map<TopicPartition, Long> open = new HashMap<>();
        final Set<String> topics = new HashSet<>();
        final Set<String> known = new HashSet<>();
        final long expected;
        long closed;
        volatile long there;
        /** Wall clock of the poll that saw the first record, and how many it saw; of the one that saw the last. */
        volatile long firstMs;
        volatile long firstCount;
        volatile long doneMs;
        volatile String error;
        volatile boolean stopped;

        Watch(JsonNode args, Map<TopicPartition, Long> sourceEnds) {
            admin = Topics.admin(args);
            pollMs = args.get("poll_ms").asLong();
            String prefix = args.get("prefix").asText();
            long sum = 0;
            for (var end : sourceEnds.entrySet()) {
                if (end.getValue() > 0) {
                    String topic = prefix + end.getKey().topic();
                    topics.add(topic);
                    open.put(new TopicPartition(topic, end.getKey().partition()), end.getValue());
                    sum += end.getValue();
                }
            }
            expected = sum;
        }

        @Override
        public void run() {
            try (admin) {
                while (!stopped && !open.isEmpty()) {
                    poll();
                    Thread.sleep(pollMs);
                }
            } catch (Exception failure) {
                error = failure.toString();
            }
        }

        private void poll() throws Exception {
            if (known.size() < topics.size()) {
                known.addAll(admin.listTopics().names().get(TIMEOUT_S, TimeUnit.SECONDS));
                known.retainAll(topics);
            }
            Set<TopicPartition> asked = new HashSet<>(open.keySet());
            asked.removeIf(partition -> !known.contains(partition.topic()));
            Map<TopicPartition, Long> ends;
            try {
                ends = Topics.ends(admin, asked, IsolationLevel.READ_UNCOMMITTED);
            } catch (ExecutionException refused) {
                if (refused.getCause() instanceof UnknownTopicOrPartitionException) {
                    // Listed by the controller, not yet known to the broker: the next poll sees it.
                    return;
                }
                throw refused;
            }
            note(ends, System.currentTimeMillis());
        }

        private void note(Map<TopicPartition, Long> ends, long nowMs) {
            long partly = 0;
            for (var end : ends.entrySet()) {
                long wanted = open.get(end.getKey());
                if (end.getValue() >= wanted) {
                    closed += wanted;
                    open.remove(end.getKey());
                } else {
                    partly += end.getValue();
                }
            }
            there = closed + partly;
            if (firstMs == 0 && there > 0) {
                firstCount = there;
                firstMs = nowMs;
            }
            if (open.isEmpty()) {
                doneMs = nowMs;
            }
        }
    }

    /** Begins a watch in place of an earlier one; answers when it looks already. */
    private static void watch(JsonNode args, ObjectNode answer) throws Exception {
        if (watch != null) {
            watch.stopped = true;
        }
        Map<TopicPartition, Long> ends;
        try (Admin source = Topics.admin(Driver.JSON.createObjectNode().put("bootstrap", args.get("source").asText()))) {
            Set<TopicPartition> all = partitions(names(args.get("topics")), args.get("partitions").asInt());
            ends = Topics.ends(source, all, IsolationLevel.READ_UNCOMMITTED);
        }
        Watch begun = new Watch(args, ends);
        begun.admin.listTopics().names().get(TIMEOUT_S, TimeUnit.SECONDS);
        Thread thread = new Thread(begun, "watch");
        thread.setDaemon(true);
        thread.start();
        watch = begun;
        answer.put("expected", begun.expected);
    }

    private static void watched(JsonNode args, ObjectNode answer) {
        if (watch.error != null) {
            throw new IllegalStateException("the watch ended: " + watch.error);
        }
        // Read in the reverse order of writing: who is told that it is done sees all the rest.
        answer.put("done_ms", watch.doneMs).put("first_ms", watch.firstMs).put("first_count", watch.firstCount);
        answer.put("there", watch.there).put("expected", watch.expected);
    }

    /** Notes when each record of a run came out of a consumer (nanoTime; 0 for not yet). */
    private static final class Reader implements Runnable {
        final String what;
        final KafkaConsumer<byte[], byte[]> consumer;
        final long run;
        final long[] read;
        final AtomicReference<Exception> failure = new AtomicReference<>();
        volatile int count;
        volatile long deadline = Long.MAX_VALUE;

        Reader(String what, String bootstrap, Set<TopicPartition> partitions, long run, int records) {
            this.what = what;
            this.run = run;
            read = new long[records];
            consumer = Consuming.consumer(Driver.JSON.createObjectNode().put("bootstrap", bootstrap));
            consumer.assign(partitions);
            consumer.seekToEnd(partitions);
            // Seeking is lazy: asked for its position, the consumer is where it shall be.
            partitions.forEach(consumer::position);
        }

        @Override
        public void run() {
            try (consumer) {
                while (count < read.length) {
                    var records = consumer.poll(Duration.ofMillis(100));
                    long now = System.nanoTime();
                    for (ConsumerRecord<byte[], byte[]> record : records) {
                        ByteBuffer value = ByteBuffer.wrap(record.value());
                        if (value.remaining() >= 12 && value.getLong() == run) {
                            read[value.getInt()] = now;
                            count++;
                        }
                    }
                    if (System.nanoTime() > deadline) {
                        throw new IllegalStateException(what + ": " + count + " of " + read.length + " records in time");
                    }
                }
            } catch (Exception error) {
                failure.set(error);
            }
        }
    }

    /**
     * Writes at a steady pace and reads source and target meanwhile, all by one clock. A record's value begins with the
     * run (int64) and its number (int32). Latency is from the call of send to the return of the poll that has it.
     */
    private static void pace(JsonNode args, ObjectNode answer) throws Exception {
        int rate = args.get("rate").asInt();
        int count = rate * args.get("seconds").asInt();
        long run = System.nanoTime();
        int each = args.get("partitions").asInt();
        String topic = args.get("topic").asText();
        Reader source = new Reader("source", args.get("bootstrap").asText(), partitions(List.of(topic), each), run, count);
        Reader target = new Reader("target", args.get("target").asText(),
                partitions(List.of(args.get("target_topic").asText()), each), run, count);
        List<Thread> threads = List.of(new Thread(source, "source"), new Thread(target, "target"));
        threads.forEach(Thread::start);
        long[] sent = new long[count];
        long pid = args.get("pid").asLong();
        Duration before = cpu(pid);
        write(args, rate, run, sent, answer);
        answer.put("cpu_s", cpu(pid).minus(before).toNanos() / 1e9);
        answer.put("paced_s", (System.nanoTime() - sent[0]) / 1e9);
        for (Reader reader : List.of(source, target)) {
            reader.deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
        }
        for (Thread thread : threads) {
            thread.join();
        }
        for (Reader reader : List.of(source, target)) {
            if (reader.failure.get() != null) {
                throw reader.failure.get();
            }
        }
        percentiles(answer.putObject("source"), sent, source.read);
        percentiles(answer.putObject("target"), sent, target.read);
        percentiles(answer.putObject("added"), source.read, target.read);
    }

    private static Duration cpu(long pid) {
        return ProcessHandle.of(pid).flatMap(process -> process.info().totalCpuDuration())
                .orElseThrow(() -> new IllegalStateException("process " + pid + " is gone"));
    }

    private static void write(JsonNode args, int rate, long run, long[] sent, ObjectNode answer) throws Exception {
        Random random = new Random(1);
        byte[] filler = new byte[args.get("value_max").asInt() * 2];
        random.nextBytes(filler);
        int min = args.get("value_min").asInt();
        int span = args.get("value_max").asInt() - min + 1;
        int partitions = args.get("partitions").asInt();
        String topic = args.get("topic").asText();
        Producing.Sender sender = new Producing.Sender();
        long latest = 0;
        try (KafkaProducer<byte[], byte[]> producer = Producing.producer(args, null)) {
            // Else the first record would wait for the metadata of its topic.
            producer.partitionsFor(topic);
            long began = System.nanoTime();
            for (int index = 0; index < sent.length; index++) {
                long due = began + index * 1_000_000_000L / rate;
                for (long wait = due - System.nanoTime(); wait > 0; wait = due - System.nanoTime()) {
                    LockSupport.parkNanos(wait);
                }
                int length = min + random.nextInt(span);
                int from = random.nextInt(filler.length - length);
                byte[] value = Arrays.copyOfRange(filler, from, from + length);
                ByteBuffer.wrap(value).putLong(run).putInt(index);
                sent[index] = System.nanoTime();
                latest = Math.max(latest, sent[index] - due);
                sender.send(producer, new ProducerRecord<>(topic, index % partitions, null, value));
            }
            producer.flush();
        }
        sender.check();
        // How far the writer fell behind its own pace: a driver that starves measures itself.
        answer.put("late_max_ms", latest / 1e6);
    }

    /** Of the time between two events of each record, in milliseconds, by nearest rank. */
    private static void percentiles(ObjectNode into, long[] from, long[] to) {
        double[] ms = new double[from.length];
        for (int index = 0; index < ms.length; index++) {
            ms[index] = (to[index] - from[index]) / 1e6;
        }
        Arrays.sort(ms);
        into.put("p50_ms", rank(ms, 0.50)).put("p99_ms", rank(ms, 0.99)).put("max_ms", ms[ms.length - 1]);
    }

    private static double rank(double[] sorted, double share) {
        return sorted[Math.max(0, (int) Math.ceil(share * sorted.length) - 1)];
    }
}
