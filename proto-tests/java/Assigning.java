import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Random;
import java.util.Set;
import java.util.TreeMap;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor.Assignment;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor.GroupSubscription;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor.Subscription;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.common.Cluster;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;

/** What Kafka's own cooperative sticky assignor moves when members come and go. */
final class Assigning {
    private final CooperativeStickyAssignor assignor = new CooperativeStickyAssignor();
    private final Cluster cluster;
    private final List<String> topics = new ArrayList<>();
    private final Map<String, List<TopicPartition>> owned = new TreeMap<>();
    private int generation = 0;
    private int born = 0;
    private int rounds = 0;

    static void register(Map<String, Driver.Command> commands) {
        commands.put("sticky_moves", Assigning::run);
    }

    private Assigning(int topicCount, int partitions) {
        Node node = new Node(1, "localhost", 1);
        List<PartitionInfo> infos = new ArrayList<>();
        for (int topic = 0; topic < topicCount; topic++) {
            topics.add("topic-" + topic);
            for (int partition = 0; partition < partitions; partition++) {
                infos.add(new PartitionInfo("topic-" + topic, partition, node, new Node[] {node}, new Node[] {node}));
            }
        }
        cluster = new Cluster("assigning", List.of(node), infos, Set.of(), Set.of());
    }

    private static void run(JsonNode args, ObjectNode answer) {
        Assigning group = new Assigning(args.path("topics").asInt(), args.path("partitions").asInt());
        for (int member = 0; member < args.path("members").asInt(); member++) {
            group.come();
        }
        group.settle();
        Random random = new Random(args.path("seed").asLong());
        long[] moved = new long[2];
        int[] changes = new int[2];
        group.rounds = 0;
        for (int change = 0; change < args.path("changes").asInt(); change++) {
            int kind = change % 2;
            if (kind == 0) {
                group.come();
            } else {
                List<String> members = new ArrayList<>(group.owned.keySet());
                group.owned.remove(members.get(random.nextInt(members.size())));
            }
            moved[kind] += group.settle();
            changes[kind]++;
        }
        answer.put("comes", (double) moved[0] / changes[0]);
        answer.put("dies", (double) moved[1] / changes[1]);
        answer.put("rounds", (double) group.rounds / (changes[0] + changes[1]));
        List<Integer> counts = group.owned.values().stream().map(List::size).toList();
        answer.put("least", Collections.min(counts));
        answer.put("most", Collections.max(counts));
    }

    private void come() {
        owned.put(String.format("m%04d", born++), new ArrayList<>());
    }

    /** Rebalances until nothing changes any more; how many partitions have another owner then. */
    private int settle() {
        Map<TopicPartition, String> before = owners();
        while (true) {
            Map<String, Subscription> subscriptions = new HashMap<>();
            owned.forEach((member, mine) -> subscriptions.put(member, new Subscription(
                    topics, assignor.subscriptionUserData(new HashSet<>(topics)), mine, generation, Optional.empty())));
            Map<String, Assignment> assignments =
                    assignor.assign(cluster, new GroupSubscription(subscriptions)).groupAssignment();
            generation++;
            rounds++;
            boolean changed = false;
            for (Map.Entry<String, Assignment> one : assignments.entrySet()) {
                List<TopicPartition> mine = one.getValue().partitions();
                changed |= !new HashSet<>(mine).equals(new HashSet<>(owned.get(one.getKey())));
                owned.put(one.getKey(), new ArrayList<>(mine));
            }
            if (!changed) {
                break;
            }
        }
        Map<TopicPartition, String> after = owners();
        return (int) after.entrySet().stream().filter(one -> !one.getValue().equals(before.get(one.getKey()))).count();
    }

    private Map<TopicPartition, String> owners() {
        Map<TopicPartition, String> owners = new HashMap<>();
        owned.forEach((member, mine) -> mine.forEach(partition -> owners.put(partition, member)));
        return owners;
    }
}
