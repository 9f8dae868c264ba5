PRAGMA application_id = 1398361667;
BEGIN TRANSACTION;
CREATE TABLE keys_1(
        key TEXT PRIMARY KEY, add_seq INTEGER NOT NULL, delete_seq INTEGER, hash BLOB NOT NULL) WITHOUT ROWID;
INSERT INTO "keys_1" VALUES('a',1,4,X'D4985D1D6C586CD1730E39FA76B4596B');
INSERT INTO "keys_1" VALUES('b',2,7,X'D4985D1D6C586CD1730E39FA76B4596B');
INSERT INTO "keys_1" VALUES('c',5,NULL,X'59C2BCB33E6B21F0ACA48622E8EC138A');
INSERT INTO "keys_1" VALUES('d',6,NULL,X'44F8075DE475106AAF7822E598A3D25B');
INSERT INTO "keys_1" VALUES('e',8,NULL,X'D4985D1D6C586CD1730E39FA76B4596B');
INSERT INTO "keys_1" VALUES('f',10,NULL,X'941DFFCE4E4308CEB33E87326003257D');
INSERT INTO "keys_1" VALUES('é',3,9,X'29F336E1FE24665272397C98FB83A1BD');
CREATE TABLE keys_2(
        key TEXT PRIMARY KEY, add_seq INTEGER NOT NULL, delete_seq INTEGER, hash BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE keys_3(
        key TEXT PRIMARY KEY, add_seq INTEGER NOT NULL, delete_seq INTEGER, hash BLOB NOT NULL) WITHOUT ROWID;
INSERT INTO "keys_3" VALUES('x',1,2,X'CEA3878A334B240469D159FF840B6434');
CREATE TABLE lineage(
        store INTEGER NOT NULL, first_seq INTEGER NOT NULL, incarnation TEXT NOT NULL,
        PRIMARY KEY (store, first_seq)) WITHOUT ROWID;
INSERT INTO "lineage" VALUES(1,0,'m1');
INSERT INTO "lineage" VALUES(1,8,'m7');
INSERT INTO "lineage" VALUES(2,0,'m3');
INSERT INTO "lineage" VALUES(3,0,'m5');
INSERT INTO "lineage" VALUES(3,2,'m8');
CREATE TABLE log_1(
        seq INTEGER PRIMARY KEY, last_seq INTEGER NOT NULL, partner INTEGER, change TEXT NOT NULL);
INSERT INTO "log_1" VALUES(1,1,4,'{"seq":1,"op":"ADD","key":"a","value":{"room":"r1"},"time":2000}');
INSERT INTO "log_1" VALUES(2,2,7,'{"seq":2,"op":"ADD","key":"b","value":{"room":"r1"},"time":2000}');
INSERT INTO "log_1" VALUES(3,3,9,'{"seq":3,"op":"ADD","key":"é","value":"ü","time":2000}');
INSERT INTO "log_1" VALUES(4,4,1,'{"seq":4,"op":"DELETE","key":"a","time":3000}');
INSERT INTO "log_1" VALUES(5,7,NULL,'{"seq":5,"op":"ADD","key":"c","value":{"room":"r2"},"time":3000}');
INSERT INTO "log_1" VALUES(6,7,NULL,'{"seq":6,"op":"ADD","key":"d","value":[1,2],"time":3000}');
INSERT INTO "log_1" VALUES(7,7,2,'{"seq":7,"op":"DELETE","key":"b","time":3000}');
INSERT INTO "log_1" VALUES(8,9,NULL,'{"seq":8,"op":"ADD","key":"e","value":{"room":"r1"},"time":4000}');
INSERT INTO "log_1" VALUES(9,9,3,'{"seq":9,"op":"DELETE","key":"é","time":4000}');
INSERT INTO "log_1" VALUES(10,10,NULL,'{"seq":10,"op":"ADD","key":"f","value":null,"time":4000}');
CREATE TABLE log_2(
        seq INTEGER PRIMARY KEY, last_seq INTEGER NOT NULL, partner INTEGER, change TEXT NOT NULL);
CREATE TABLE log_3(
        seq INTEGER PRIMARY KEY, last_seq INTEGER NOT NULL, partner INTEGER, change TEXT NOT NULL);
INSERT INTO "log_3" VALUES(1,1,2,'{"seq":1,"op":"ADD","key":"x","value":1,"time":2500}');
INSERT INTO "log_3" VALUES(2,2,1,'{"seq":2,"op":"DELETE","key":"x","time":4000}');
CREATE TABLE meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
INSERT INTO "meta" VALUES('format',1);
CREATE TABLE stores(
        id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, store_id TEXT NOT NULL,
        created_ms INTEGER NOT NULL, head_seq INTEGER NOT NULL, live_count INTEGER NOT NULL, digest INTEGER NOT NULL);
INSERT INTO "stores" VALUES(1,'notes','m2',1000,10,4,3732674571);
INSERT INTO "stores" VALUES(2,'empty','m4',1001,0,0,0);
INSERT INTO "stores" VALUES(3,'other','m6',1002,2,0,0);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('stores',3);
COMMIT;
