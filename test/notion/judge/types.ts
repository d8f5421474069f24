// types.ts
//	The official client's published types under names of our own: schema.mjs makes a JSON schema of
//	each. Answers are named by their full form alone: the partial forms would let anything pass.
import type * as E from "@notionhq/client/build/src/api-endpoints";

export type ReqGetSelf = E.GetSelfParameters;
export type ReqListUsers = E.ListUsersParameters;
export type ReqGetUser = E.GetUserParameters;
export type ReqCreateDatabase = E.CreateDatabaseParameters;
export type ReqGetDatabase = E.GetDatabaseParameters;
export type ReqUpdateDatabase = E.UpdateDatabaseParameters;
export type ReqCreateDataSource = E.CreateDataSourceParameters;
export type ReqGetDataSource = E.GetDataSourceParameters;
export type ReqUpdateDataSource = E.UpdateDataSourceParameters;
export type ReqQueryDataSource = E.QueryDataSourceParameters;
export type ReqListTemplates = E.ListDataSourceTemplatesParameters;
export type ReqCreatePage = E.CreatePageParameters;
export type ReqGetPage = E.GetPageParameters;
export type ReqUpdatePage = E.UpdatePageParameters;
export type ReqMovePage = E.MovePageParameters;
export type ReqGetPageProperty = E.GetPagePropertyParameters;
export type ReqGetMarkdown = E.GetPageMarkdownParameters;
export type ReqUpdateMarkdown = E.UpdatePageMarkdownParameters;
export type ReqSearch = E.SearchParameters;
export type ReqGetBlock = E.GetBlockParameters;
export type ReqDeleteBlock = E.DeleteBlockParameters;
export type ReqListChildren = E.ListBlockChildrenParameters;
export type ReqAppendChildren = E.AppendBlockChildrenParameters;
export type ReqCreateComment = E.CreateCommentParameters;
export type ReqListComments = E.ListCommentsParameters;
export type ReqGetComment = E.GetCommentParameters;

type ListOf<List, Item> = Omit<List, "results"> & { results: Item[] };

export type ResUser = E.UserObjectResponse;
export type ResUsers = E.ListUsersResponse;
export type ResDatabase = E.DatabaseObjectResponse;
export type ResDataSource = E.DataSourceObjectResponse;
export type ResPage = E.PageObjectResponse;
export type ResQuery = ListOf<E.QueryDataSourceResponse, E.PageObjectResponse>;
export type ResSearch = ListOf<E.SearchResponse, E.PageObjectResponse | E.DataSourceObjectResponse>;
export type ResPageProperty = E.GetPagePropertyResponse;
export type ResMarkdown = E.PageMarkdownResponse;
export type ResTemplates = E.ListDataSourceTemplatesResponse;
export type ResBlock = E.BlockObjectResponse;
export type ResBlocks = ListOf<E.ListBlockChildrenResponse, E.BlockObjectResponse>;
export type ResComment = E.CommentObjectResponse;
export type ResComments = E.ListCommentsResponse;

export type Event =
    | E.PageCreatedWebhookPayload | E.PagePropertiesUpdatedWebhookPayload | E.PageContentUpdatedWebhookPayload
    | E.PageDeletedWebhookPayload | E.PageUndeletedWebhookPayload | E.PageMovedWebhookPayload
    | E.DataSourceCreatedWebhookPayload | E.DataSourceSchemaUpdatedWebhookPayload | E.DataSourceDeletedWebhookPayload
    | E.DataSourceUndeletedWebhookPayload | E.DatabaseCreatedWebhookPayload | E.DatabaseDeletedWebhookPayload
    | E.DatabaseUndeletedWebhookPayload | E.CommentCreatedWebhookPayload;
