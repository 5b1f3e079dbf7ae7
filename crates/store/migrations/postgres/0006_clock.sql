-- PostgreSQL only. An instance is believed for 10 s. One that is believed for much longer renewed itself before the clock
-- was set back: were it dead, its sessions would wait until the clock is there again.
CREATE OR REPLACE VIEW living AS
    SELECT id FROM instances
    WHERE expires_at > (EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::BIGINT
      AND expires_at <= (EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::BIGINT + 20000000;
