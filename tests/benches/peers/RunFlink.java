import java.nio.file.Files;
import java.nio.file.Path;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.table.api.TableResult;

/**
 * Runs the statements of a file, which are separated by lines with a semicolon alone, in a Flink cluster within this
 * process, in streaming mode. The last one is waited for. The second argument is the parallelism.
 */
public class RunFlink {
    public static void main(String[] arguments) throws Exception {
        Configuration configuration = new Configuration();
        configuration.setString("parallelism.default", arguments[1]);
        configuration.setString("pipeline.object-reuse", "true");
        configuration.setString("table.local-time-zone", "UTC");
        configuration.setString("taskmanager.memory.managed.size", "1g");
        configuration.setString("taskmanager.memory.network.min", "128m");
        configuration.setString("taskmanager.memory.network.max", "128m");
        configuration.setString("table.exec.mini-batch.enabled", "true");
        configuration.setString("table.exec.mini-batch.allow-latency", "1 s");
        configuration.setString("table.exec.mini-batch.size", "20000");
        EnvironmentSettings settings =
                EnvironmentSettings.newInstance().withConfiguration(configuration).inStreamingMode().build();
        TableEnvironment environment = TableEnvironment.create(settings);
        TableResult result = null;
        for (String statement : Files.readString(Path.of(arguments[0])).split("\n;\n")) {
            result = environment.executeSql(statement);
        }
        result.await();
        System.exit(0);
    }
}
