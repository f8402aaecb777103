/*
 * The ten steps on JDBC (Debian: libpostgresql-jdbc-java; Maven: org.postgresql:postgresql).
 *
 *     java -cp /usr/share/java/postgresql.jar examples/clients/TenSteps.java URL [URL for LISTEN]
 *
 * with URLs such as jdbc:postgresql://localhost/postgres.  Behind a pooler in transaction
 * mode add prepareThreshold=0 to the URL: the driver would prepare what runs often, on a
 * connection that is another one next time.  (PgBouncer also needs extra_float_digits in
 * its ignore_startup_parameters.)  UUID, OffsetDateTime and long are asked for by their
 * class; an interval is a PGInterval, and a jsonb is its text, in a PGobject.
 */
import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.UUID;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.util.PGInterval;
import org.postgresql.util.PGobject;

public class TenSteps
{
    /* as the server writes it: the JDK has no reader of JSON */
    private static final String JSON =
        "{\"deep\": {\"er\": \"\\\"\\\\\"}, \"name\": \"Zo\u00eb \u2603\", \"parts\": [1, 2.5, null, true]}";
    private static final DateTimeFormatter MICROSECONDS =
        DateTimeFormatter.ofPattern("yyyy-MM-dd HH:mm:ss.SSSSSS");

    private final Connection connection;
    private final Connection listener;
    /* of the agent, its queue, a resource, a channel */
    private final String name = "ten steps " + UUID.randomUUID();
    private UUID me;

    private TenSteps(Connection connection, Connection listener)
    {
        this.connection = connection;
        this.listener = listener;
    }

    private static PGobject jsonb(String text) throws SQLException
    {
        PGobject value = new PGobject();
        value.setType("jsonb");
        value.setValue(text);
        return value;
    }

    private static String same(Object got, Object wanted, String yes, String no)
    {
        return got.equals(wanted) ? yes : no + " (" + got + ")";
    }

    private static String given(ResultSet row, String column) throws SQLException
    {
        return same(row.getString(column), JSON, "as given", "not as given");
    }

    /* Of a number of ours, and what the server writes for it. */
    private static String exact(long number, String text)
    {
        return same(Long.toString(number), text, number > 1L << 53 ? "past 2^53 and exact" : "short",
                    "rounded");
    }

    /* The rows that a query gives, on its first one if there is one. */
    private static ResultSet rows(Connection connection, String query, Object... arguments) throws SQLException
    {
        PreparedStatement statement = connection.prepareStatement(query);
        statement.closeOnCompletion();
        for (int i = 0; i < arguments.length; i++)
            statement.setObject(i + 1, arguments[i]);
        ResultSet rows = statement.executeQuery();
        rows.next();
        return rows;
    }

    private ResultSet one(String query, Object... arguments) throws SQLException
    {
        return rows(connection, query, arguments);
    }

    private void agent() throws SQLException
    {
        ResultSet row = one("SELECT * FROM coord.agent_register(?, heartbeat_timeout => ?, metadata => ?)",
                            name, new PGInterval(0, 0, 0, 1, 30, 0.25), jsonb(JSON));
        PGInterval timeout = (PGInterval) row.getObject("heartbeat_timeout");
        BigDecimal seconds = BigDecimal.valueOf(timeout.getHours() * 3600 + timeout.getMinutes() * 60)
            .add(BigDecimal.valueOf(timeout.getSeconds()));
        System.out.printf("1 agent_register: %s, timeout %s s, metadata %s%n",
                          row.getString("status"), seconds, given(row, "metadata"));
        me = row.getObject("id", UUID.class);
    }

    private long task() throws SQLException
    {
        UUID id = UUID.randomUUID();
        OffsetDateTime runAt = OffsetDateTime.of(2024, 2, 29, 12, 34, 56, 789_012_000, ZoneOffset.ofHours(2));
        ResultSet row = one("SELECT * FROM coord.task_create('resize', ?, queue => ?, run_at => ?, id => ?)",
                            jsonb(JSON), name, runAt, id);
        runAt = row.getObject("run_at", OffsetDateTime.class);
        System.out.printf("2 task_create: %s, id %s, run_at %s UTC, payload %s%n", row.getString("state"),
                          same(row.getObject("id", UUID.class), id, "as given", "not as given"),
                          runAt.withOffsetSameInstant(ZoneOffset.UTC).format(MICROSECONDS), given(row, "payload"));

        ResultSet claim = one("SELECT *, fencing_token::text AS digits" +
                              " FROM coord.task_claim(?, ?, lease_ttl => ?)",
                              me, name, new PGInterval("1 minute"));
        long token = claim.getLong("fencing_token");
        OffsetDateTime expiresAt = claim.getObject("lease_expires_at", OffsetDateTime.class);
        System.out.printf("3 task_claim: %s, attempt %d, token %s%n", claim.getString("state"),
                          claim.getInt("attempts"), exact(token, claim.getString("digits")));

        row = one("SELECT * FROM coord.task_renew(?, ?, ?, progress => ?)", id, token,
                  new PGInterval("2 minutes"), jsonb(JSON));
        boolean later = row.getObject("lease_expires_at", OffsetDateTime.class).isAfter(expiresAt);
        System.out.printf("4 task_renew: %s, progress %s, until %s than before%n", row.getString("state"),
                          given(row, "progress"), later ? "later" : "no later");

        row = one("SELECT * FROM coord.task_complete(?, ?, ?)", id, token, jsonb(JSON));
        ResultSet again = one("SELECT * FROM coord.task_complete(?, ?, ?)", id, token, jsonb(JSON));
        System.out.printf("5 task_complete: %s, result %s; again: %s%n", row.getString("state"),
                          given(row, "result"), again.getString("state"));
        return token;
    }

    private void lease() throws SQLException
    {
        ResultSet row = one("SELECT * FROM coord.lease_acquire(?, ?, ?)", name, me, new PGInterval("1 minute"));
        UUID id = row.getObject("id", UUID.class);
        ResultSet again = one("SELECT * FROM coord.lease_renew(?, ?)", id, new PGInterval("2 minutes"));
        boolean later = again.getObject("expires_at", OffsetDateTime.class)
            .isAfter(row.getObject("expires_at", OffsetDateTime.class));
        System.out.printf("6 lease: %s, renewed until %s with %s token, released %b, again %b%n",
                          row.getString("state"), later ? "later" : "no later",
                          same(again.getLong("fencing_token"), row.getLong("fencing_token"), "the same",
                               "another"),
                          one("SELECT coord.lease_release(?)", id).getBoolean(1),
                          one("SELECT coord.lease_release(?)", id).getBoolean(1));
    }

    /* A member of a notification's JSON that has no escapes: its id, or its position. */
    private static String member(String json, String name)
    {
        Matcher matcher = Pattern.compile('"' + name + "\": \"?([0-9a-f-]+)").matcher(json);
        return matcher.find() ? matcher.group(1) : "";
    }

    private String notification() throws SQLException
    {
        PGNotification[] heard;
        do
            heard = listener.unwrap(PGConnection.class).getNotifications(0);
        while (heard.length == 0);
        return heard[0].getParameter();
    }

    private void event() throws SQLException
    {
        rows(listener, "SELECT coord.event_listen(channel => ?)", name);
        UUID sent = one("SELECT * FROM coord.event_send('report', ?, channel => ?)", jsonb(JSON), name)
            .getObject("id", UUID.class);
        String heard = notification();
        long position = Long.parseLong(member(heard, "position"));
        ResultSet row = one("SELECT *, position::text AS digits FROM coord.event_list(channel => ?)", name);
        System.out.printf("7 event_send: notified, id %s, position %s%n",
                          same(member(heard, "id"), sent.toString(), "as sent", "of another"),
                          exact(position, row.getString("digits")));

        ResultSet rest = one("SELECT count(*) FROM coord.event_list(channel => ?, after => ?)", name, position);
        System.out.printf("8 event_list: %s, payload %s; after its position: %d events%n",
                          row.getString("type"), given(row, "payload"), rest.getInt(1));
    }

    private void refused(long staleToken) throws SQLException
    {
        one("SELECT * FROM coord.task_create('again', queue => ?)", name);
        connection.setAutoCommit(false); // from here to rollback() is one transaction
        ResultSet row = one("SELECT * FROM coord.task_claim(?, ?)", me, name);
        UUID id = row.getObject("id", UUID.class);
        String claimed = row.getString("state") + ", attempt " + row.getInt("attempts");
        try
        {
            one("SELECT * FROM coord.task_complete(?, ?)", id, staleToken);
        }
        catch (SQLException error)
        {
            System.out.println("9 task_complete with a stale token: " + error.getSQLState());
        }
        connection.rollback();
        connection.setAutoCommit(true);
        row = one("SELECT * FROM coord.task WHERE id = ?", id);
        System.out.printf("10 rolled back: %s; then %s, attempt %d%n", claimed, row.getString("state"),
                          row.getInt("attempts"));
        one("SELECT * FROM coord.task_cancel(?)", id);
    }

    private void run() throws SQLException
    {
        agent();
        long staleToken = task();
        lease();
        event();
        refused(staleToken);
        one("SELECT * FROM coord.agent_retire(?)", me);
    }

    public static void main(String[] urls) throws SQLException
    {
        try (Connection connection = DriverManager.getConnection(urls[0]);
             Connection listener = DriverManager.getConnection(urls[urls.length - 1]))
        {
            new TenSteps(connection, listener).run();
        }
    }
}
