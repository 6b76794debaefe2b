import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AdminClientConfig;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitionReassignment;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.ProducerState;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.ScramCredentialInfo;
import org.apache.kafka.clients.admin.ScramMechanism;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.admin.UserScramCredentialUpsertion;
import org.apache.kafka.clients.admin.ListOffsetsOptions;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.IsolationLevel;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionInfo;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.acl.AccessControlEntry;
import org.apache.kafka.common.acl.AccessControlEntryFilter;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.quota.ClientQuotaAlteration;
import org.apache.kafka.common.quota.ClientQuotaEntity;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourceType;

/** Commands that need an admin client: topics, configs, offsets, leaders. */
final class Topics {
    private static final long TIMEOUT_S = 120;
    private static final long HEARD_WITHIN_S = 20;

    private Topics() {}

    static void register(Map<String, Driver.Command> commands) {
        commands.put("create_topic", Topics::create);
        commands.put("delete_topic", Topics::delete);
        commands.put("add_partitions", Topics::addPartitions);
        commands.put("alter_configs", Topics::alterConfigs);
        commands.put("describe_topic", Topics::describe);
        commands.put("topic_configs", Topics::configs);
        commands.put("list_topics", Topics::list);
        commands.put("delete_records", Topics::deleteRecords);
        commands.put("offsets", Topics::offsets);
        commands.put("move_leader", Topics::moveLeader);
        commands.put("describe_producers", Topics::producers);
        commands.put("cluster", Topics::cluster);
        commands.put("set_quota", Topics::setQuota);
        commands.put("set_scram", Topics::setScram);
        commands.put("allow", Topics::allow);
        commands.put("deny", Topics::deny);
        commands.put("ends_of", Topics::endsOf);
        commands.put("transactions", Topics::transactions);
        commands.put("log_bytes", Topics::logBytes);
    }

    static Admin admin(JsonNode args) {
        Properties props = new Properties();
        props.put(AdminClientConfig.BOOTSTRAP_SERVERS_CONFIG, args.get("bootstrap").asText());
        props.put(AdminClientConfig.DEFAULT_API_TIMEOUT_MS_CONFIG, "100000");
        props.put(AdminClientConfig.REQUEST_TIMEOUT_MS_CONFIG, "30000");
        return Admin.create(props);
    }

    static Map<String, String> strings(JsonNode object) {
        Map<String, String> map = new HashMap<>();
        if (object != null) {
            object.fieldNames().forEachRemaining(name -> map.put(name, object.get(name).asText()));
        }
        return map;
    }

    private static void create(JsonNode args, ObjectNode answer) throws Exception {
        try (Admin admin = admin(args)) {
            String name = args.get("topic").asText();
            NewTopic topic = new NewTopic(name, args.path("partitions").asInt(1),
                    (short) args.path("replication").asInt(1)).configs(strings(args.get("configs")));
            Uuid id = admin.createTopics(List.of(topic)).topicId(name).get(TIMEOUT_S, TimeUnit.SECONDS);
            awaitLeaders(admin, name, topic.numPartitions());
            answer.put("topic_id", id.toString());
        }
    }

    /**
     * Waits until every partition's leader serves. A producer that comes earlier may have its first batch refused and its
     * second taken, for a partition without its state takes any sequence; then it tries the first one for ever.
     */
    static void awaitLeaders(Admin admin, String topic, int partitions) throws Exception {
        Map<TopicPartition, OffsetSpec> latest = new HashMap<>();
        for (int partition = 0; partition < partitions; partition++) {
            latest.put(new TopicPartition(topic, partition), OffsetSpec.latest());
        }
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(TIMEOUT_S);
        while (true) {
            try {
                admin.listOffsets(latest).all().get(TIMEOUT_S, TimeUnit.SECONDS);
                return;
            } catch (ExecutionException refused) {
                // The client tries again without a leader, but not where the topic is not known yet.
                boolean unknown = refused.getCause() instanceof UnknownTopicOrPartitionException;
                if (!unknown || System.nanoTime() > deadline) {
                    throw refused;
                }
                Thread.sleep(20);
            }
        }
    }

    private static void delete(JsonNode args, ObjectNode answer) throws Exception {
        try (Admin admin = admin(args)) {
            admin.deleteTopics(List.of(args.get("topic").asText())).all().get(TIMEOUT_S, TimeUnit.SECONDS);
        }
    }

    private static void addPartitions(JsonNode args, ObjectNode answer) throws Exception {
        try (Admin admin = admin(args)) {
            String topic = args.get("topic").asText();
            int total = args.get("partitions").asInt();
            admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(total))).all().get(TIMEOUT_S, TimeUnit.SECONDS);
            awaitLeaders(admin, topic, total);
        }
    }

    private static void alterConfigs(JsonNode args, ObjectNode answer) throws Exception {
        try (Admin admin = admin(args)) {
            ConfigResource topic = new ConfigResource(ConfigResource.Type.TOPIC, args.get("topic").asText());
            Collection<AlterConfigOp> ops = new ArrayList<>();
            strings(args.get("configs")).forEach(
                    (key, value) -> ops.add(new AlterConfigOp(new ConfigEntry(key, value), AlterConfigOp.OpType.SET)));
            admin.incrementalAlterConfigs(Map.of(topic, ops)).all().get(TIMEOUT_S, TimeUnit.SECONDS);
        }
    }

    private static TopicDescription description(Admin admin, String topic) throws Exception {
        return admin.describeTopics(List.of(topic)).allTopicNames().get(TIMEOUT_S, TimeUnit.SECONDS).get(topic);
    }

    private static void describe(JsonNode args, ObjectNode answer) throws Exception {
        try (Admin admin = admin(args)) {
            TopicDescription topic = description(admin, args.get("topic").asText());
            answer.put("topic_id", topic.topicId().toString());
            ArrayNode partitions = answer.putArray("partitions");
            for (TopicPartitionInfo info : topic.partitions()) {
                ObjectNode partition = partitions.addObject().put("partition", info.partition());
                partition.put("leader", info.leader() == null ? -1 : info.leader().id());
                ArrayNode replicas = partition.putArray("replicas");
                info.replicas().forEach(node -> replicas.add(node.id()));
                ArrayNode isr = partition.putArray("isr");
                info.isr().forEach(node -> isr.add(node.id()));
            }
        }
    }

    private static void configs(JsonNode args, ObjectNode answer) throws Exception {
        try (Admin admin = admin(args)) {
            ConfigResource topic = new ConfigResource(ConfigResource.Type.TOPIC, args.get("topic").asText());
            ObjectNode configs = answer.putObject("configs");
            admin.describeConfigs(List.of(topic)).all().get(TIMEOUT_S, TimeUnit.SECONDS).get(topic).entries().stream()
                    .filter(entry -> entry.source() == ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG)
                    .forEach(entry -> configs.put(entry.name(), entry.value()));
        }
    }

    private static void list(JsonNode args, ObjectNode answer) throws Exception {
        try (Admin admin = admin(args)) {
            ArrayNode names = answer.putArray("topics");
            admin.listTopics().names().get(TIMEOUT_S, TimeUnit.SECONDS).stream().sorted().forEach(names::add);
        }
    }

    private static void deleteRecords(JsonNode args, ObjectNode answer) throws Exception {
        try (Admin admin = admin(args)) {
            TopicPartition partition = new TopicPartition(args.get("topic").asText(), args.get("partition").asInt());
            RecordsToDelete before = RecordsToDelete.beforeOffset(args.get("before").asLong());
            long low = admin.deleteRecords(Map.of(partition, before)).lowWatermarks().get(partition)
                    .get(TIMEOUT_S, TimeUnit.SECONDS).lowWatermark();
            answer.put("low_watermark", low);
        }
    }

    static Set<TopicPartition> partitions(Admin admin, JsonNode topics) throws Exception {
        List<String> names = new ArrayList<>();
        topics.forEach(name -> names.add(name.asText()));
        Set<TopicPartition> all = new HashSet<>();
        describe(admin, names).forEach((name, topic) -> topic.partitions()
                .forEach(info -> all.add(new TopicPartition(name, info.partition()))));
        return all;
    }

    /** Of several brokers the one that is asked may hear of a topic later than the one that made it. */
    private static Map<String, TopicDescription> describe(Admin admin, List<String> names) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(HEARD_WITHIN_S);
        while (true) {
            try {
                return admin.describeTopics(names).allTopicNames().get(TIMEOUT_S, TimeUnit.SECONDS);
            } catch (ExecutionException refused) {
                boolean unknown = refused.getCause() instanceof UnknownTopicOrPartitionException;
                if (!unknown || System.nanoTime() > deadline) {
                    throw refused;
                }
                Thread.sleep(100);
            }
        }
    }

    private static Map<TopicPartition, Long> offsets(Admin admin, Set<TopicPartition> partitions, OffsetSpec spec,
            IsolationLevel isolation) throws Exception {
        Map<TopicPartition, OffsetSpec> query = new HashMap<>();
        partitions.forEach(partition -> query.put(partition, spec));
        Map<TopicPartition, Long> offsets = new HashMap<>();
        admin.listOffsets(query, new ListOffsetsOptions(isolation)).all().get(TIMEOUT_S, TimeUnit.SECONDS)
                .forEach((partition, found) -> offsets.put(partition, found.offset()));
        return offsets;
    }

    static Map<TopicPartition, Long> ends(Admin admin, Set<TopicPartition> partitions, IsolationLevel isolation)
            throws Exception {
        return offsets(admin, partitions, OffsetSpec.latest(), isolation);
    }

    private static void offsets(JsonNode args, ObjectNode answer) throws Exception {
        try (Admin admin = admin(args)) {
            Set<TopicPartition> partitions = partitions(admin, args.get("topics"));
            var start = offsets(admin, partitions, OffsetSpec.earliest(), IsolationLevel.READ_UNCOMMITTED);
            var end = ends(admin, partitions, IsolationLevel.READ_UNCOMMITTED);
            var stable = ends(admin, partitions, IsolationLevel.READ_COMMITTED);
            ArrayNode rows = answer.putArray("partitions");
            for (TopicPartition partition : partitions) {
                rows.addObject().put("topic", partition.topic()).put("partition", partition.partition())
                        .put("start", start.get(partition)).put("end", end.get(partition))
                        .put("stable_end", stable.get(partition));
            }
        }
    }

    private static void endsOf(JsonNode args, ObjectNode answer) throws Exception {
        try (Admin admin = admin(args)) {
            List<TopicPartition> asked = new ArrayList<>();
            args.get("partitions").forEach(
                    partition -> asked.add(new TopicPartition(args.get("topic").asText(), partition.asInt())));
            var found = ends(admin, new HashSet<>(asked), IsolationLevel.READ_UNCOMMITTED);
            ArrayNode rows = answer.putArray("ends");
            asked.forEach(partition -> rows.add(found.get(partition)));
        }
    }

    private static void moveLeader(JsonNode args, ObjectNode answer) throws Exception {
        try (Admin admin = admin(args)) {
            String topic = args.get("topic").asText();
            int leader = args.get("leader").asInt();
            TopicPartition partition = new TopicPartition(topic, args.get("partition").asInt());
            List<Integer> replicas = new ArrayList<>(List.of(leader));
            description(admin, topic).partitions().get(partition.partition()).replicas().stream()
                    .filter(node -> node.id() != leader).forEach(node -> replicas.add(node.id()));
            admin.alterPartitionReassignments(Map.of(partition, Optional.of(new NewPartitionReassignment(replicas))))
                    .all().get(TIMEOUT_S, TimeUnit.SECONDS);
            admin.electLeaders(ElectionType.PREFERRED, Set.of(partition)).partitions().get(TIMEOUT_S, TimeUnit.SECONDS);
        }
    }

    private static void producers(JsonNode args, ObjectNode answer) throws Exception {
        try (Admin admin = admin(args)) {
            TopicPartition partition = new TopicPartition(args.get("topic").asText(), args.get("partition").asInt());
            ArrayNode rows = answer.putArray("producers");
            for (ProducerState state : admin.describeProducers(List.of(partition)).partitionResult(partition)
                    .get(TIMEOUT_S, TimeUnit.SECONDS).activeProducers()) {
                rows.addObject().put("producer_id", state.producerId()).put("producer_epoch", state.producerEpoch())
                        .put("last_sequence", state.lastSequence()).put("last_timestamp", state.lastTimestamp())
                        .put("coordinator_epoch", state.coordinatorEpoch().orElse(-1))
                        .put("transaction_start", state.currentTransactionStartOffset().orElse(-1));
            }
        }
    }

    private static void cluster(JsonNode args, ObjectNode answer) throws Exception {
        try (Admin admin = admin(args)) {
            var cluster = admin.describeCluster();
            answer.put("cluster_id", cluster.clusterId().get(TIMEOUT_S, TimeUnit.SECONDS));
            ArrayNode nodes = answer.putArray("nodes");
            cluster.nodes().get(TIMEOUT_S, TimeUnit.SECONDS).forEach(node -> nodes.add(node.id()));
            // The controller of describeCluster is any broker that forwards to it.
            answer.put("controller", admin.describeMetadataQuorum().quorumInfo().get(TIMEOUT_S, TimeUnit.SECONDS).leaderId());
        }
    }

    private static void setQuota(JsonNode args, ObjectNode answer) throws Exception {
        try (Admin admin = admin(args)) {
            ClientQuotaEntity client =
                    new ClientQuotaEntity(Map.of(ClientQuotaEntity.CLIENT_ID, args.get("client").asText()));
            JsonNode value = args.get("value");
            Double rate = value.isNull() ? null : Double.valueOf(value.asDouble());
            var op = new ClientQuotaAlteration.Op(args.get("quota").asText(), rate);
            admin.alterClientQuotas(List.of(new ClientQuotaAlteration(client, List.of(op)))).all()
                    .get(TIMEOUT_S, TimeUnit.SECONDS);
        }
    }

    private static void setScram(JsonNode args, ObjectNode answer) throws Exception {
        try (Admin admin = admin(args)) {
            var info = new ScramCredentialInfo(ScramMechanism.fromMechanismName(args.get("mechanism").asText()),
                    args.get("iterations").asInt());
            admin.alterUserScramCredentials(List.of(new UserScramCredentialUpsertion(args.get("user").asText(), info,
                    args.get("password").asText()))).all().get(TIMEOUT_S, TimeUnit.SECONDS);
        }
    }

    /** One ACL that allows, of any kind of resource. */
    private static void allow(JsonNode args, ObjectNode answer) throws Exception {
        try (Admin admin = admin(args)) {
            var resource = new ResourcePattern(ResourceType.valueOf(args.get("resource").asText()),
                    args.get("name").asText(), PatternType.valueOf(args.get("pattern").asText()));
            var entry = new AccessControlEntry(args.get("principal").asText(), "*",
                    AclOperation.valueOf(args.get("operation").asText()), AclPermissionType.ALLOW);
            admin.createAcls(List.of(new AclBinding(resource, entry))).all().get(TIMEOUT_S, TimeUnit.SECONDS);
        }
    }

    /** Denies operations on a topic to whoever comes from an address, in place of what was denied before. */
    private static void deny(JsonNode args, ObjectNode answer) throws Exception {
        try (Admin admin = admin(args)) {
            var topic = new ResourcePattern(ResourceType.TOPIC, args.get("topic").asText(), PatternType.LITERAL);
            var all = new AclBindingFilter(topic.toFilter(), AccessControlEntryFilter.ANY);
            admin.deleteAcls(List.of(all)).all().get(TIMEOUT_S, TimeUnit.SECONDS);
            List<AclBinding> acls = new ArrayList<>();
            for (JsonNode operation : args.get("operations")) {
                acls.add(new AclBinding(topic, new AccessControlEntry("User:*", args.get("host").asText(),
                        AclOperation.valueOf(operation.asText()), AclPermissionType.DENY)));
            }
            if (!acls.isEmpty()) {
                // A topic with one entry is open to nobody who has none.
                acls.add(new AclBinding(topic,
                        new AccessControlEntry("User:*", "*", AclOperation.ALL, AclPermissionType.ALLOW)));
                admin.createAcls(acls).all().get(TIMEOUT_S, TimeUnit.SECONDS);
            }
        }
    }

    private static void transactions(JsonNode args, ObjectNode answer) throws Exception {
        try (Admin admin = admin(args)) {
            ArrayNode ids = answer.putArray("ids");
            admin.listTransactions().all().get(TIMEOUT_S, TimeUnit.SECONDS)
                    .forEach(listing -> ids.add(listing.transactionalId()));
        }
    }

    private static void logBytes(JsonNode args, ObjectNode answer) throws Exception {
        try (Admin admin = admin(args)) {
            String topic = args.get("topic").asText();
            List<Integer> nodes = new ArrayList<>();
            admin.describeCluster().nodes().get(TIMEOUT_S, TimeUnit.SECONDS).forEach(node -> nodes.add(node.id()));
            long bytes = admin.describeLogDirs(nodes).allDescriptions().get(TIMEOUT_S, TimeUnit.SECONDS).values()
                    .stream().flatMap(dirs -> dirs.values().stream())
                    .flatMap(dir -> dir.replicaInfos().entrySet().stream())
                    .filter(replica -> replica.getKey().topic().equals(topic))
                    .mapToLong(replica -> replica.getValue().size()).sum();
            answer.put("bytes", bytes);
        }
    }
}
